# SPDX-License-Identifier: MIT
"""Fidelity of an SAE by every definition, from Hugging Face's EsmForMaskedLM (transformers 4.55) in
float64 and the formulas as the named systems publish them, written out one by one.

    python fidelity.py MODEL_FOLDER PROTEINS_TSV

Writes fidelity.json and fidelity_sae.safetensors beside this file. MODEL_FOLDER is
examples/data/esm2_mini, PROTEINS_TSV examples/data/uniprot_demo.tsv. The SAE (TopK, 8 of 96) is made
of principal directions of the model's states, so it explains some of them and not all.
"""
import json
import math
import sys
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import EsmConfig, EsmForMaskedLM

LAYER, FEATURES, K = 2, 96, 8
ALPHABET = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>".split()
CLS, EOS, MASK = 0, 2, 32


def read_model(folder):
    config = EsmConfig.from_pretrained(folder, attn_implementation="eager", torch_dtype="float64")
    model = EsmForMaskedLM(config).double().eval()
    stored = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    missing, extra = model.load_state_dict(stored, strict=False)
    assert all("position" in k or "decoder" in k or "contact" in k for k in missing), missing
    print("not in the model:", extra, file=sys.stderr)
    model.lm_head.decoder.weight = model.esm.embeddings.word_embeddings.weight
    return model


def tokens_of(text):
    return torch.tensor([[CLS] + [ALPHABET.index(c) for c in text] + [EOS]])


class run:
    """Logits and the state at resid_post.layer, with the state replaced by change(state)."""

    def __init__(self, model):
        self.model = model

    def __call__(self, ids, layer, change=None):
        seen = {}

        def hook(module, inputs, output):
            state = output[0]
            seen["x"] = state[0].clone()
            if change is None:
                return output
            return (change(state[0])[None],) + tuple(output[1:])

        handle = self.model.esm.encoder.layer[layer].register_forward_hook(hook)
        with torch.no_grad():
            logits = self.model(ids, attention_mask=torch.ones_like(ids)).logits[0]
        handle.remove()
        return logits, seen["x"]


def make_sae(states, generator):
    mean = states.mean(0)
    _, _, directions = torch.linalg.svd(states - mean, full_matrices=False)
    top = directions[: FEATURES // 2]
    rows = torch.cat([top, -top]) + 0.02 * torch.randn(FEATURES, states.shape[1], generator=generator, dtype=torch.float64)
    rows = rows / rows.norm(dim=1, keepdim=True)
    # A bias away from the mean, so that errors have a mean too.
    bias = mean + 0.3 * torch.randn(states.shape[1], generator=generator, dtype=torch.float64)
    threshold = torch.full((FEATURES,), -0.05, dtype=torch.float64)
    return {"encoder.weight": rows.float(), "encoder.bias": threshold.float(),
            "decoder.weight": (1.1 * rows).float(), "b_dec": bias.float()}


def reconstruct(sae, x):
    w, b, d, c = (sae[k].double() for k in ("encoder.weight", "encoder.bias", "decoder.weight", "b_dec"))
    a = torch.relu((x - c) @ w.T + b)
    values, index = a.topk(K, dim=1)
    z = torch.zeros_like(a).scatter(1, index, values)
    return z @ d + c, (z > 0).sum(1).double()


def inner(n):
    keep = torch.zeros(n, dtype=torch.bool)
    keep[1:-1] = True
    return keep


def kl(p, q):
    p, q = F.log_softmax(p, -1), F.log_softmax(q, -1)
    return (p.exp() * (p - q)).sum(-1)


def evaluate(forward, sae, proteins, masks, protocol):
    """Every figure; `protocol` has the sets of rows and the kind of mean."""
    layer = LAYER + protocol.get("blocks_later", 0)
    forward.model.esm.embeddings.token_dropout = protocol.get("token_dropout", True)
    plain = [tokens_of(p) for p in proteins]
    states = [forward(ids, layer)[1] for ids in plain]
    rows = lambda which, n: torch.ones(n, dtype=torch.bool) if which == "all" else inner(n)
    x = torch.cat([s[rows(protocol["measured"], len(s))] for s in states])
    rebuilt, active = reconstruct(sae, x)
    e = rebuilt - x
    centred = x - x.mean(0)
    ev = {
        "fvu": lambda: 1 - e.square().sum() / centred.square().sum(),
        "offset": lambda: 1 - e.var(0).sum() / x.var(0).sum(),
        "squares": lambda: 1 - e.square().sum(1).mean() / (x.square().sum(1).mean() - x.square().mean(0).mean() ** 2),
        "none": lambda: torch.tensor(math.nan),
    }[protocol["explained"]]()
    out = {
        "fvu": e.square().sum() / centred.square().sum(),
        "explained_variance": ev,
        "mean_squared_error": F.mse_loss(rebuilt, x),
        "cosine": F.cosine_similarity(x, rebuilt, dim=1).mean(),
        "length_ratio": (rebuilt.norm(dim=1) / x.norm(dim=1)).mean(),
        "relative_bias": rebuilt.square().sum(1).mean() / (x * rebuilt).sum(1).mean(),
        "l0": active.mean(),
    }
    if protocol.get("no_model"):
        return out
    average = torch.cat([s[rows(protocol["ablated"], len(s))] for s in states]).mean(0)

    def replace(which, make):
        def change(state):
            keep = rows(which, len(state))
            return torch.where(keep[:, None], make(state), state)
        return change

    conditions = {
        "clean": None,
        "spliced": replace(protocol["replaced"], lambda s: reconstruct(sae, s)[0]),
        "zero": replace(protocol["ablated"], torch.zeros_like),
        "mean": replace(protocol["ablated"], lambda s: average.expand_as(s)),
    }
    per_protein = []
    for ids, masked in zip(plain, masks):
        target = ids[0]
        n = len(target)
        seen = ids.clone()
        if protocol.get("masked"):
            seen[0, [m + 1 for m in masked]] = MASK
        logits = {c: forward(seen, layer, change)[0] for c, change in conditions.items()}
        predicting = inner(n) if protocol["scored"] == "residues" else torch.ones(n, dtype=torch.bool)
        if protocol.get("masked"):
            predicting = torch.zeros(n, dtype=torch.bool)
            predicting[[m + 1 for m in masked]] = True
        if protocol.get("next_token"):
            with_target = predicting[:-1]
            ce = {c: F.cross_entropy(l[:-1], target[1:], reduction="none")[with_target] for c, l in logits.items()}
        else:
            ce = {c: F.cross_entropy(l, target, reduction="none")[predicting] for c, l in logits.items()}
        divergence = {c: kl(logits["clean"], l)[predicting] for c, l in logits.items()}
        per_protein.append((ce, divergence))

    def mean(which, c):
        if protocol["average"] == "tokens":
            return torch.cat([p[which][c] for p in per_protein]).mean()
        return torch.stack([p[which][c].mean() for p in per_protein]).mean()

    for c in conditions:
        out["loss_" + c] = mean(0, c)
        if c != "clean":
            out["kl_" + c] = mean(1, c)
    formula = {
        "share": lambda clean, spliced, ablated: (ablated - spliced) / (ablated - clean),
        "clipped": lambda clean, spliced, ablated: 0.0 if math.isclose(ablated, clean, abs_tol=1e-8)
        else min(max(1 - (spliced - clean) / (ablated - clean), 0.0), 1.0),
        "epsilon": lambda clean, spliced, ablated: min(max(1 - (spliced - clean) / (ablated - clean + 1e-8), 0.0), 1.0),
    }[protocol["formula"]]
    for c in ("zero", "mean"):
        if protocol["average"] == "ratios":
            shares = [formula(*(float(p[0][k].mean()) for k in ("clean", "spliced", c))) for p in per_protein]
            out["recovered_" + c] = sum(shares) / len(shares)
        else:
            out["recovered_" + c] = formula(*(float(out["loss_" + k]) for k in ("clean", "spliced", c)))
    return out


RES, ALL = "residues", "all"
PROTOCOLS = {
    "standard": dict(replaced=RES, ablated=RES, scored=RES, measured=RES, average="tokens", masked=True, formula="share", explained="fvu"),
    "interplm": dict(replaced=ALL, ablated=ALL, scored=RES, measured=RES, average="proteins", formula="clipped", explained="offset"),
    "interprot": dict(replaced=ALL, ablated=ALL, scored=ALL, measured=ALL, average="ratios", formula="share", explained="none", token_dropout=False),
    "reticular": dict(replaced=ALL, ablated=ALL, scored=RES, measured=RES, average="proteins", formula="clipped", explained="offset", blocks_later=1),
    "gujral": dict(measured=RES, explained="none", no_model=True),
    "bionemo": dict(replaced=RES, ablated=RES, scored=RES, measured=RES, average="tokens", formula="epsilon", explained="offset"),
    "saelens": dict(replaced=RES, ablated=ALL, scored=RES, measured=RES, average="tokens", next_token=True, formula="share", explained="squares"),
    "saebench": dict(replaced=ALL, ablated=ALL, scored=RES, measured=RES, average="tokens", next_token=True, formula="share", explained="squares"),
    "dictionary_learning": dict(replaced=ALL, ablated=ALL, scored=ALL, measured=ALL, average="tokens", next_token=True, formula="share", explained="offset"),
    "bussmann": dict(replaced=ALL, ablated=ALL, scored=ALL, measured=ALL, average="tokens", next_token=True, formula="share", explained="none"),
}


def main():
    here = Path(__file__).parent
    model_folder = Path(sys.argv[1])
    with open(sys.argv[2]) as lines:
        header = next(lines).rstrip("\n").split("\t")
        column = header.index("Sequence")
        texts = [line.rstrip("\n").split("\t")[column] for line in lines]
    texts = [t for t in texts if set(t) <= set("LAGVSERTIDPKQNFYMHWC")]
    training = [t for t in texts if len(t) < 250][20:60]
    proteins = [t for t in texts if len(t) < 120][:5] + ["M", "WY"]
    random = numpy.random.default_rng(5)
    masks = [sorted(int(i) for i in random.choice(len(p), max(1, len(p) // 5), replace=False)) for p in proteins]
    forward = run(read_model(model_folder))
    states = torch.cat([forward(tokens_of(t), LAYER)[1][1:-1] for t in training])
    sae = make_sae(states, torch.Generator().manual_seed(3))
    results = {}
    for name, protocol in PROTOCOLS.items():
        figures = evaluate(forward, sae, proteins, masks, protocol)
        results[name] = {k: (None if math.isnan(float(v)) else float(v)) for k, v in figures.items()}
    save_file({k: v.contiguous() for k, v in sae.items()}, here / "fidelity_sae.safetensors")
    (here / "fidelity.json").write_text(json.dumps(
        {"site": f"resid_post.{LAYER}", "k": K, "proteins": proteins, "masked": masks, "definitions": results}, indent=1) + "\n")
    for name, figures in results.items():
        print(name, {k: None if v is None else round(v, 5) for k, v in figures.items()})


if __name__ == "__main__":
    main()
