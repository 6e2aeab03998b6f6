# SPDX-License-Identifier: MIT
"""The training step of topk_step.cpp in PyTorch, in several forms.

Started by bench_topk_step, which sends sizes, initial weights and batches on stdin and then asks
one line at a time. The step: x - b_dec, encoder, relu of the k largest, decoder, squared error
summed over d and averaged over rows, decoder gradient without its part along the rows, global norm
clipped to 1, Adam on everything, decoder rows back to length 1, tokens since each latent fired.

  dense              autograd through a dense code matrix, the way published trainers are written
  dense_hand         the gradients written out: one product less, preallocated results
  dense_onednn       as dense_hand, with products by oneDNN through an operator that torch keeps for
                     its compiler: on AMD processors up to twice as fast as torch.mm, which is MKL
  embedding_bag      autograd through torch.nn.functional.embedding_bag
"""

import os
import sys
import time

import numpy as np
import torch


def read_exactly(count):
    data = bytearray(4 * count)
    view, filled = memoryview(data), 0
    while filled < len(data):
        got = sys.stdin.buffer.readinto(view[filled:])
        if not got:
            sys.exit("the numbers ended early")
        filled += got
    return torch.from_numpy(np.frombuffer(data, dtype="<f4"))


class Step:
    def __init__(self, start, batches, k, rate, autograd):
        names = ("encoder", "decoder", "encoder_bias", "decoder_bias")
        for name, value in zip(names, start):
            setattr(self, name, value.clone().requires_grad_(autograd))
        self.parameters = [getattr(self, name) for name in names]
        self.adam = torch.optim.Adam(self.parameters, lr=rate, fused=True)
        self.batches, self.k, self.done = batches, k, 0
        self.since_fired = torch.zeros(self.encoder.shape[0], dtype=torch.int64)

    def count(self, ids, values, rows):
        self.since_fired += rows
        self.since_fired[ids[values > 0]] = 0

    def step(self):
        x = self.batches[self.done % len(self.batches)]
        self.done += 1
        loss = self.gradients(x)
        with torch.no_grad():
            w, g = self.decoder, self.decoder.grad
            unit = w / (w.norm(dim=1, keepdim=True) + 1e-6)
            g -= (g * unit).sum(dim=1, keepdim=True) * unit
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
            self.adam.step()
            w /= w.norm(dim=1, keepdim=True) + torch.finfo(w.dtype).eps
        return loss


class Dense(Step):
    def gradients(self, x):
        pre = torch.addmm(self.encoder_bias, x - self.decoder_bias, self.encoder.t())
        values, ids = pre.topk(self.k, dim=1, sorted=False)
        values = values.relu()
        codes = torch.zeros_like(pre).scatter(1, ids, values)
        error = torch.addmm(self.decoder_bias, codes, self.decoder) - x
        loss = error.square().sum(dim=1).mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.count(ids, values.detach(), x.shape[0])
        return loss.detach()


class EmbeddingBag(Step):
    def gradients(self, x):
        pre = torch.addmm(self.encoder_bias, x - self.decoder_bias, self.encoder.t())
        values, ids = pre.topk(self.k, dim=1, sorted=False)
        values = values.relu()
        decoded = torch.nn.functional.embedding_bag(
            ids, self.decoder, per_sample_weights=values, mode="sum")
        error = decoded + self.decoder_bias - x
        loss = error.square().sum(dim=1).mean()
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        self.count(ids, values.detach(), x.shape[0])
        return loss.detach()


class DenseByHand(Step):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        m, f, d = self.batches[0].shape[0], self.encoder.shape[0], self.encoder.shape[1]
        self.wide = [torch.empty(m, f), torch.empty(m, f)]
        self.narrow = torch.empty(m, d)
        for p in self.parameters:
            p.grad = torch.empty_like(p)

    def product(self, a, b, out):
        return torch.mm(a, b, out=out)

    @torch.no_grad()
    def gradients(self, x):
        m = x.shape[0]
        pre, codes = self.wide
        centred = x - self.decoder_bias
        pre = self.product(centred, self.encoder.t(), pre).add_(self.encoder_bias)
        values, ids = pre.topk(self.k, dim=1, sorted=False)
        values.relu_()
        codes.zero_().scatter_(1, ids, values)
        error = self.product(codes, self.decoder, self.narrow).add_(self.decoder_bias).sub_(x)
        loss = error.square().sum() / m
        error *= 2 / m
        self.decoder.grad = self.product(codes.t(), error, self.decoder.grad)
        pre = self.product(error, self.decoder.t(), pre)
        dz = pre.gather(1, ids) * (values > 0)
        codes.scatter_(1, ids, dz)
        self.encoder.grad = self.product(codes.t(), centred, self.encoder.grad)
        torch.sum(codes, dim=0, out=self.encoder_bias.grad)
        torch.sum(error, dim=0, out=self.decoder_bias.grad)
        self.decoder_bias.grad -= self.encoder_bias.grad @ self.encoder
        self.count(ids, values, m)
        return loss


class DenseByOneDnn(DenseByHand):
    def product(self, a, b, out):
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


FORMS = {"dense": (Dense, True), "dense_hand": (DenseByHand, False),
         "dense_onednn": (DenseByOneDnn, False), "embedding_bag": (EmbeddingBag, True)}
if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    del FORMS["dense_onednn"]


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first = sys.stdin.buffer.readline().split()
    d, features, k, rows, count, threads = (int(word) for word in first[:6])
    rate = float(first[6])
    torch.set_num_threads(threads)
    start = [read_exactly(features * d).view(features, d) for _ in range(2)]
    start += [read_exactly(features), read_exactly(d)]
    batches = [read_exactly(rows * d).view(rows, d) for _ in range(count)]

    def fresh(name):
        kind, autograd = FORMS[name]
        return kind(start, batches, k, rate, autograd)

    running = {}
    for line in sys.stdin.buffer:
        word, *rest = line.decode().split()
        if word == "forms":
            answer = " ".join(FORMS)
        elif word == "about":
            answer = (f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
                      f"{torch.backends.cpu.get_cpu_capability()}")
        elif word == "losses":
            running[rest[0]] = fresh(rest[0])
            answer = " ".join(repr(float(running[rest[0]].step())) for _ in range(int(rest[1])))
        elif word == "time":
            step = running[rest[0]]
            step.step()
            times = []
            for _ in range(int(rest[1])):
                begin = time.perf_counter()
                step.step()
                times.append((time.perf_counter() - begin) * 1e3)
            answer = " ".join(f"{ms:.3f}" for ms in times)
        else:
            sys.exit(f"not understood: {line!r}")
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
