# SPDX-License-Identifier: MIT
"""Tokens that Hugging Face's EsmTokenizer (the slow one, transformers 4.55) gives.

    python hf_tokens.py > hf_tokens.tsv

One line per text: the text, a tab, the ids. Texts without tabs and line ends: fixed ones, then random
ones from letters that are tokens, letters that are not, blanks and the texts of special tokens.
"""
import random
import tempfile
from pathlib import Path

from transformers import EsmTokenizer

TOKENS = ("<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> "
          "<mask>").split()
FIXED = ["MKTVRQG", "MJJM", "MJ*JM", "mkt", "M J J K", "JM", "MJ", "J", "MJ<mask>JM", "<unk>J<unk>",
         "XBUZO.-", "M1 2K", "AjjG  jjj A", "K A <mask> I S Q", "<mask><mask>", "A<unk><unk>G"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(TOKENS))
        tokenizer = EsmTokenizer(str(vocabulary))
    random.seed(7)
    pieces = list("LAGVSERTIDPKQNFYMHWCXBUZO.-") + list("Jj*amk1?") * 3 + [" ", " ", "<mask>", "<unk>"]
    texts = FIXED + ["".join(random.choices(pieces, k=random.randint(1, 24))) for _ in range(200)]
    for text in texts:
        print(text, " ".join(map(str, tokenizer(text)["input_ids"])), sep="\t")


if __name__ == "__main__":
    main()
