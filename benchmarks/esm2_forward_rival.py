# SPDX-License-Identifier: MIT
"""The forward pass of esm2_forward.cpp by Hugging Face transformers.

Started by bench_esm2_forward, which asks one line at a time:

  make SIZE LAYERS WIDTH HEADS FOLDER   a model with random weights, saved as safetensors in FOLDER
  sequences N                           N lines with the token ids of one sequence each follow
  open FOLDER DTYPE                     loads the model twice, with eager and with SDPA attention
  forms                                 the ways it can run
  states SEQUENCE                       its last hidden state, as one line of numbers
  time FORM                             seconds for all sequences, the model being warm
  about                                 versions and threads

Forms: eager or sdpa; single (one sequence a call) or batchB (sorted by length, padded, at most B
tokens a call).
"""

import os
import sys
import time

import torch
from transformers import EsmConfig, EsmModel


def build(layers, width, heads, folder):
    torch.manual_seed(0)
    config = EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1, hidden_size=width,
                       num_hidden_layers=layers, num_attention_heads=heads,
                       intermediate_size=4 * width, max_position_embeddings=1026,
                       hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                       position_embedding_type="rotary", layer_norm_eps=1e-5, token_dropout=True,
                       emb_layer_norm_before=False)
    model = EsmModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():  # the default 0.02 leaves attention flat
        for name, p in model.named_parameters():
            if p.dim() == 2 and "embeddings" not in name:
                p.normal_(0, 0.6 / p.shape[1] ** 0.5)
    model.save_pretrained(folder, safe_serialization=True)


def batches(sequences, limit):
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    out, at = [], 0
    while at < len(order):
        end = at + 1
        while end < len(order) and len(sequences[order[end]]) * (end + 1 - at) <= limit:
            end += 1
        rows = [sequences[i] for i in order[at:end]]
        longest = len(rows[-1])
        ids = torch.tensor([r + [1] * (longest - len(r)) for r in rows])
        out.append((ids, None if len(rows) == 1 else (ids != 1).long()))
        at = end
    return out


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(sys.argv[1]))
    sequences, models, inputs = [], {}, {}
    for line in sys.stdin:
        word, *rest = line.split()
        answer = "done"
        if word == "make":
            build(int(rest[1]), int(rest[2]), int(rest[3]), rest[4])
        elif word == "sequences":
            sequences = [[int(t) for t in sys.stdin.readline().split()] for _ in range(int(rest[0]))]
            inputs = {"single": [(torch.tensor([s]), None) for s in sequences]}
            for limit in (1024, 4096):
                inputs[f"batch{limit}"] = batches(sequences, limit)
        elif word == "open":
            models = {}
            dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[rest[1]]
            for attention in ("eager", "sdpa"):
                models[attention] = EsmModel.from_pretrained(
                    rest[0], add_pooling_layer=False, attn_implementation=attention,
                    torch_dtype=dtype).eval()
        elif word == "forms":
            answer = " ".join(f"{a}_{b}" for a in models for b in inputs)
        elif word == "states":
            with torch.inference_mode():
                state = models["eager"](torch.tensor([sequences[int(rest[0])]])).last_hidden_state
            answer = " ".join(f"{v:.9g}" for v in state.float().flatten().tolist())
        elif word == "time":
            attention, how = rest[0].split("_")
            begin = time.perf_counter()
            with torch.inference_mode():
                for ids, mask in inputs[how]:
                    models[attention](ids, attention_mask=mask)
            answer = f"{time.perf_counter() - begin:.6f}"
        elif word == "about":
            import transformers
            answer = (f"torch {torch.__version__}, transformers {transformers.__version__}, "
                      f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
        else:
            sys.exit(f"not understood: {line!r}")
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
