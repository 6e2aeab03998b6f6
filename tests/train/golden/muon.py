#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Steps of torch.optim.Muon on matrices, torch.optim.AdamW on vectors, and running means of both.

    python muon.py

Writes muon.safetensors beside this file. Made with torch 2.13.0. Needs no GPU.

torch iterates in bfloat16. Each case is run as it is (`.bfloat16`) and with Tensor.bfloat16 replaced
by a copy in float64, which is the same code in another precision: what a backend in double precision
must reproduce to rounding. Matrices are stored as this library has them, one row per latent;
torch.nn.Linear has the decoder the other way round, which matters for `outputs`.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

STEPS, FEATURES, D = 6, 20, 8
SHAPES = {"encoder": (FEATURES, D), "decoder": (FEATURES, D), "encoder_bias": (FEATURES,),
          "decoder_bias": (D,), "skip": (D, D)}
CASES = {
    "default": dict(lr=2e-3, momentum=0.95, nesterov=True, weight_decay=0.1, scale="match_rms_adamw"),
    "plain": dict(lr=2e-2, momentum=0.9, nesterov=False, weight_decay=0.0, scale="original"),
    "nesterov": dict(lr=1e-2, momentum=0.8, nesterov=True, weight_decay=0.0, scale="original"),
    "decay": dict(lr=5e-3, momentum=0.95, nesterov=False, weight_decay=0.5, scale="match_rms_adamw"),
    "still": dict(lr=5e-3, momentum=0.0, nesterov=True, weight_decay=0.01, scale="match_rms_adamw"),
}
VECTORS = dict(lr=2e-4, weight_decay=0.01)
MEAN = 0.9


def run(case, start, gradients, schedule):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in start.items():
                value = value.T if name == "decoder" else value
                self.register_parameter(name, torch.nn.Parameter(value.clone()))

    model = Model()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(matrices, lr=case["lr"], momentum=case["momentum"],
                            nesterov=case["nesterov"], weight_decay=case["weight_decay"],
                            adjust_lr_fn=case["scale"])
    adam = torch.optim.AdamW(vectors, **VECTORS)
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(MEAN))
    for step in range(STEPS):
        for name, p in model.named_parameters():
            g = gradients[name][step]
            p.grad = (g.T if name == "decoder" else g).clone()
        for group, base in ((muon.param_groups[0], case["lr"]), (adam.param_groups[0], VECTORS["lr"])):
            group["lr"] = base * schedule[step]
        muon.step()
        adam.step()
        mean.update_parameters(model)
    stored = {}
    for name, p in model.named_parameters():
        stored[name] = p.detach()
        stored[name + ".mean"] = dict(mean.module.named_parameters())[name].detach()
    return {k: (v.T if k.startswith("decoder") and v.ndim == 2 else v).double().contiguous()
            for k, v in stored.items()}


def main():
    torch.manual_seed(0)
    start = {k: torch.randn(v, dtype=torch.float64) * 0.3 for k, v in SHAPES.items()}
    # Of low rank and uneven length: where making a matrix orthogonal does something.
    gradients = {}
    for name, shape in SHAPES.items():
        g = torch.randn(STEPS, *shape, dtype=torch.float64)
        if len(shape) == 2:
            g = g * 0.05 + torch.randn(STEPS, shape[0], 1, dtype=torch.float64) * torch.randn(
                shape[1], dtype=torch.float64)
        gradients[name] = g * 10.0 ** torch.arange(STEPS, dtype=torch.float64).sub(3).reshape(
            -1, *[1] * len(shape))
    schedule = torch.linspace(1.0, 0.5, STEPS, dtype=torch.float64)
    out = {"start." + k: v for k, v in start.items()}
    out |= {"gradient." + k: v for k, v in gradients.items()}
    out["schedule"] = schedule
    half = torch.Tensor.bfloat16
    for name, case in CASES.items():
        out |= {f"{name}.bfloat16.{k}": v for k, v in run(case, start, gradients, schedule).items()}
        torch.Tensor.bfloat16 = lambda t: t.double().clone()
        out |= {f"{name}.float64.{k}": v for k, v in run(case, start, gradients, schedule).items()}
        torch.Tensor.bfloat16 = half
    save_file(out, Path(__file__).with_name("muon.safetensors"), {"torch": torch.__version__})


main()
