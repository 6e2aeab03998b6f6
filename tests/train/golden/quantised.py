#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Steps of overcomplete's QSAE under torch.optim.Adam, with hard and with soft levels.

    python quantised.py

Writes quantised.safetensors beside this file. Made with overcomplete 0.3.0 (a1781af) and torch 2.13.0.
The encoder is a plain linear map and a bias stands beside the dictionary, whose rows are free; the loss
is the mean over rows of |x - x'|^2 + 0.02 sum z.
"""
from pathlib import Path

import torch
from overcomplete.sae.qsae import QSAE
from safetensors.torch import save_file
from torch import nn

STEPS, ROWS, FEATURES, D, LEVELS = 6, 16, 12, 6, 4


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(D, FEATURES)

    def forward(self, x):
        pre = self.map(x)
        return pre, torch.relu(pre)


def main():
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    x = torch.randn(STEPS, ROWS, D) + 0.2
    out = {"x": x}
    for name, hard in (("hard", True), ("soft", False)):
        sae = QSAE(D, FEATURES, q=LEVELS, hard=hard, encoder_module=Linear(),
                   dictionary_params={"normalization": "identity"})
        with torch.no_grad():  # QSAE makes its levels in single precision
            sae.Q.data = sae.Q.data.double()
            for p in (sae.encoder.map.weight, sae.encoder.map.bias):
                p.copy_(0.5 * torch.randn_like(p))
            sae.dictionary._weights.data = 0.5 * torch.randn(FEATURES, D)
        bias = nn.Parameter(0.1 * torch.randn(D))
        adam = torch.optim.Adam([*sae.parameters(), bias], lr=0.01)
        kept = {key: [] for key in ("encoder", "decoder", "encoder_bias", "decoder_bias", "levels")}

        def keep():
            for key, value in (("encoder", sae.encoder.map.weight),
                               ("decoder", sae.dictionary._weights),
                               ("encoder_bias", sae.encoder.map.bias),
                               ("decoder_bias", bias), ("levels", sae.Q)):
                kept[key].append(value.detach().clone())

        keep()
        for rows in x:
            _, z = sae.encode(rows)
            error = rows - sae.decode(z) - bias
            loss = (error ** 2).sum(1).mean() + 0.02 * z.sum(1).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            keep()
        print(name, "active:", float((z > 0).double().mean()), "levels:", sae.Q.tolist())
        out |= {f"{name}.{key}": torch.stack(values) for key, values in kept.items()}
    save_file(out, Path(__file__).with_name("quantised.safetensors"))


main()
