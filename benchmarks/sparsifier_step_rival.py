# SPDX-License-Identifier: MIT
"""The training steps of sparsifier_step.cpp in PyTorch, by autograd through dense codes.

Started by bench_sparsifier_step, which sends sizes, initial weights and batches on stdin and then
asks one line at a time: `loss NAME` (of the first step), `time NAME` (seconds of the next step) or
`about`. Unknown names are answered `none` and `0`.
"""

import os
import sys
import time

import torch

from topk_step_rival import read_exactly


class Jump(torch.autograd.Function):
    """z = a where a > theta, with the rectangle's pseudo-gradient."""

    @staticmethod
    def forward(context, a, theta, width):
        context.save_for_backward(a, theta)
        context.width = width
        return a * (a > theta)

    @staticmethod
    def backward(context, g):
        a, theta = context.saved_tensors
        window = ((a - theta).abs() < context.width / 2).to(a.dtype)
        return g * (a > theta), (-(theta / context.width) * window * g).sum(0), None


class Step01(torch.autograd.Function):
    @staticmethod
    def forward(context, a, theta, width):
        context.save_for_backward(a, theta)
        context.width = width
        return (a > theta).to(a.dtype)

    @staticmethod
    def backward(context, g):
        a, theta = context.saved_tensors
        window = ((a - theta).abs() < context.width / 2).to(a.dtype)
        return None, (-(1 / context.width) * window * g).sum(0), None


class Step:
    def __init__(self, name, start, batches, k, rate, threshold):
        self.name, self.k, self.batches, self.done, self.t = name, k, batches, 0, threshold
        self.encoder, self.decoder, self.b_enc, self.b_dec = (
            p.clone().requires_grad_(True) for p in start)
        self.parameters = [self.encoder, self.decoder, self.b_enc, self.b_dec]
        features = self.encoder.shape[0]
        self.since = torch.zeros(features, dtype=torch.int64)
        with torch.no_grad():
            if name == "relu_l1":
                self.b_enc -= threshold
            if name == "top_k_aux_k":
                self.since[::10] = 10_000_000
                self.b_enc[::10] = 0
                self.encoder[::10] *= 0.05
        if name == "jump_relu":
            self.theta = torch.full((features,), threshold, requires_grad=True)
            self.parameters.append(self.theta)
        if name == "gated":
            self.gate = torch.full((features,), -threshold, requires_grad=True)
            self.scale = torch.zeros(features, requires_grad=True)
            self.parameters += [self.gate, self.scale]
        self.ends = [features // s for s in (16, 8, 4, 2, 1)]
        self.adam = torch.optim.Adam(self.parameters, lr=rate, fused=True)

    def codes(self, a):
        if self.name in ("batch_top_k", "batch_matryoshka"):
            flat = a.relu().flatten()
            values, ids = flat.topk(self.k * a.shape[0], sorted=False)
            return torch.zeros_like(flat).scatter(0, ids, values).view_as(a)
        if self.name == "relu_l1":
            return a.relu()
        if self.name == "jump_relu":
            return Jump.apply(a, self.theta, self.t / 10)
        if self.name == "group_max":
            groups = a.relu().view(a.shape[0], self.k, -1)
            values, ids = groups.max(dim=2, keepdim=True)
            return torch.zeros_like(groups).scatter(2, ids, values).view_as(a)
        values, ids = a.topk(self.k, dim=1, sorted=False)
        return torch.zeros_like(a).scatter(1, ids, values.relu())

    def loss(self, x):
        m = x.shape[0]
        if self.name == "gated":
            p = (x - self.b_dec) @ self.encoder.t()
            gate = (p + self.gate).relu()
            z = (gate > 0) * (self.scale.exp() * p + self.b_enc).relu()
            error = torch.addmm(self.b_dec, z, self.decoder) - x
            aux = torch.addmm(self.b_dec.detach(), gate, self.decoder.detach()) - x
            return z, ((error ** 2).sum() + (aux ** 2).sum()
                       + 1e-3 * (gate * self.decoder.norm(dim=1)).sum()) / m
        a = torch.addmm(self.b_enc, x - self.b_dec, self.encoder.t())
        z = self.codes(a)
        if "matryoshka" in self.name:
            total, result, before = 0, self.b_dec, 0
            for end in self.ends:
                result = result + z[:, before:end] @ self.decoder[before:end]
                total = total + ((result - x) ** 2).sum() / m / len(self.ends)
                before = end
            return z, total
        error = torch.addmm(self.b_dec, z, self.decoder) - x
        loss = (error ** 2).sum() / m
        if self.name == "relu_l1":
            loss = loss + 1e-3 * z.sum() / m
        if self.name == "jump_relu":
            loss = loss + 1e-3 * Step01.apply(a, self.theta, self.t / 10).sum() / m
        if self.name == "top_k_aux_k":
            dead = (self.since >= 500_000).nonzero().flatten()
            rest = (-error).detach()
            pre = a[:, dead].relu()
            values, ids = pre.topk(min(x.shape[1] // 2, len(dead)), dim=1, sorted=False)
            aux = torch.zeros_like(pre).scatter(1, ids, values) @ self.decoder[dead]
            variance = ((rest - rest.mean(0)) ** 2).sum()
            loss = loss + ((rest - aux) ** 2).sum() / variance / 32
        return z, loss

    def step(self):
        x = self.batches[self.done % len(self.batches)]
        self.done += 1
        z, loss = self.loss(x)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            self.since += x.shape[0]
            self.since[(z.detach() > 0).any(0)] = 0
            w, g = self.decoder, self.decoder.grad
            unit = w / (w.norm(dim=1, keepdim=True) + 1e-6)
            g -= (g * unit).sum(dim=1, keepdim=True) * unit
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
            self.adam.step()
            w /= w.norm(dim=1, keepdim=True) + torch.finfo(w.dtype).eps
        return float(loss.detach())


NAMES = ("top_k", "batch_top_k", "jump_relu", "relu_l1", "gated", "group_max", "top_k_aux_k",
         "matryoshka", "batch_matryoshka")


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first = sys.stdin.buffer.readline().split()
    d, features, k, rows, count, threads = (int(word) for word in first[:6])
    rate, threshold = float(first[6]), float(first[7])
    torch.set_num_threads(threads)
    start = [read_exactly(features * d).view(features, d) for _ in range(2)]
    start += [read_exactly(features), read_exactly(d)]
    batches = [read_exactly(rows * d).view(rows, d) for _ in range(count)]
    steps = {}
    for line in sys.stdin.buffer:
        word, *rest = line.decode().split()
        if word == "about":
            answer = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        elif rest[0] not in NAMES:
            answer = "none" if word == "loss" else "0"
        else:
            if rest[0] not in steps:
                steps[rest[0]] = Step(rest[0], start, batches, k, rate, threshold)
            begin = time.perf_counter()
            loss = steps[rest[0]].step()
            answer = f"{loss:.9g}" if word == "loss" else f"{time.perf_counter() - begin:.6f}"
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
