#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Dictionaries of overcomplete's RelaxedArchetypalDictionary under torch.optim.Adam.

    python archetypal.py

Writes archetypal.safetensors beside this file. Made with overcomplete 0.3.0 and torch 2.13.0. In every
step the dictionary gets a given derivative, so that only the dictionary is compared; rates are such that
weights reach 0 and relaxations their limit. (delta = 0 divides 0 by 0 there.)
"""
from pathlib import Path

import torch
from overcomplete.sae.archetypal_dictionary import RelaxedArchetypalDictionary
from safetensors.torch import save_file

STEPS, FEATURES, D, POINTS = 8, 12, 6, 20
CASES = {  # learning rate, delta, multiplier
    "relaxed": (0.02, 0.05, True),
    "wide": (0.01, 1.0, True),
    "plain": (0.03, 0.1, False),
}


def main():
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    points = torch.randn(POINTS, D) + 0.3
    gradients = torch.randn(STEPS, FEATURES, D)
    out = {"points": points, "gradients": gradients}
    for name, (rate, delta, multiplier) in CASES.items():
        layer = RelaxedArchetypalDictionary(D, FEATURES, points.clone(), delta=delta,
                                            use_multiplier=multiplier)
        adam = torch.optim.Adam(layer.parameters(), lr=rate)
        seen = []
        for g in gradients:
            adam.zero_grad()
            dictionary = layer.get_dictionary()
            seen.append(dictionary.detach().clone())
            dictionary.backward(g)
            adam.step()
        layer.eval()
        seen.append(layer.get_dictionary().detach().clone())
        out[name] = torch.stack(seen)
        print(name, "weights at 0:", float((layer.W == 0).float().mean()),
              "longest relaxation:", float(layer.Relax.detach().norm(dim=1).max()))
    save_file(out, Path(__file__).with_name("archetypal.safetensors"))


main()
