#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Factors of the learning rate at every step, from torch's and transformers' schedulers.

    python schedules.py

Writes schedules.tsv beside this file: a line for each schedule, its name and the factors of steps 0 to
59. Made with torch 2.13.0 and transformers 4.55.4.
"""
from pathlib import Path

import torch
from torch.optim import lr_scheduler as s
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

STEPS, WARMUP, DECAY = 60, 10, 20


def factors(make):
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64, requires_grad=True)], lr=1.0)
    schedule = make(optimizer)
    out = []
    for _ in range(STEPS):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return out


def wsd(shape, least):
    return lambda o: get_wsd_schedule(o, num_warmup_steps=WARMUP, num_decay_steps=DECAY,
                                      num_training_steps=STEPS, decay_type=shape,
                                      min_lr_ratio=least)


CASES = {
    "cosine": lambda o: s.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1),
    "warmup_cosine": lambda o: get_cosine_schedule_with_warmup(o, WARMUP, STEPS),
    "restarts": lambda o: s.CosineAnnealingWarmRestarts(o, T_0=STEPS // 3, eta_min=0.05),
    "wsd_linear": wsd("linear", 0.0),
    "wsd_cosine": wsd("cosine", 0.0),
    "wsd_one_minus_sqrt": wsd("1-sqrt", 0.0),
}

lines = [name + "\t" + "\t".join(repr(float(v)) for v in factors(make)) for name, make in CASES.items()]
Path(__file__).with_name("schedules.tsv").write_text("\n".join(lines) + "\n")
