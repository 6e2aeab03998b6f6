#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's side of benchmarks/gpu.cu: the same figures, lines `NAME VALUE UNIT`.

  step_dense_fp32   autograd through a dense code matrix, fp32 without TF32: the defaults of published
                    trainers
  step_dense_bf16   the same under bf16 autocast
  step_bag_bf16     encoder under bf16 autocast, decoding by the fused sparse kernels of
                    torch.nn.functional.embedding_bag
  esm2_bf16         Hugging Face's ESM-2 with SDPA in bf16, batches of similar length, padded; where
                    transformers is not installed, the same network in plain torch
"""

import argparse
import random
import statistics
import time

import torch
import torch.nn.functional as F


def seconds(work, rounds, inner, sync):
    for _ in range(3):
        work()
    times = []
    for _ in range(rounds):
        sync()
        start = time.perf_counter()
        for _ in range(inner):
            work()
        sync()
        times.append((time.perf_counter() - start) / inner)
    return statistics.median(times)


class Step:
    def __init__(self, s, device, autocast, bag):
        g = torch.Generator().manual_seed(1)
        decoder = F.normalize(torch.randn(s.features, s.d, generator=g), dim=1).to(device)
        self.p = [torch.nn.Parameter(t) for t in (
            decoder.clone(), torch.zeros(s.features, device=device), decoder,
            torch.zeros(s.d, device=device))]
        self.x = torch.randn(s.batch, s.d, generator=g).to(device)
        self.adam = torch.optim.Adam(self.p, lr=2e-4, fused=device.type == "cuda")
        self.since = torch.zeros(s.features, dtype=torch.int64, device=device)
        self.k, self.autocast, self.bag, self.device = s.k, autocast, bag, device

    def __call__(self):
        encoder, bias, decoder, decoder_bias = self.p
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            pre = F.linear(self.x - decoder_bias, encoder, bias)
            values, ids = pre.topk(self.k, dim=1, sorted=False)
            values = values.relu()
            if not self.bag:
                codes = torch.zeros_like(pre).scatter_(1, ids, values)
                out = codes @ decoder + decoder_bias
        if self.bag:
            out = F.embedding_bag(ids, decoder, per_sample_weights=values.float(), mode="sum") + decoder_bias
        loss = (out.float() - self.x).square().sum(1).mean()
        loss.backward()
        with torch.no_grad():
            unit = F.normalize(decoder, dim=1)
            decoder.grad -= (decoder.grad * unit).sum(1, keepdim=True) * unit
            torch.nn.utils.clip_grad_norm_(self.p, 1.0)
            self.adam.step()
            self.adam.zero_grad()
            decoder.copy_(F.normalize(decoder, dim=1))
            self.since += self.x.shape[0]
            self.since[ids.flatten()] = 0


def lengths(count):
    r = random.Random(4)
    return [r.randint(50, 1000) + 2 for _ in range(count)]


class PlainEsm(torch.nn.Module):
    """ESM-2's arithmetic in torch: pre-norm blocks, rotary positions, SDPA, erf-GELU."""

    def __init__(self, layers, d, heads):
        super().__init__()
        self.heads = heads
        self.embed = torch.nn.Embedding(33, d)
        new = lambda n, m: torch.nn.Linear(n, m)
        self.blocks = torch.nn.ModuleList(torch.nn.ModuleDict({
            "n1": torch.nn.LayerNorm(d), "qkv": new(d, 3 * d), "o": new(d, d),
            "n2": torch.nn.LayerNorm(d), "up": new(d, 4 * d), "down": new(4 * d, d)})
            for _ in range(layers))
        self.norm = torch.nn.LayerNorm(d)
        half = d // heads // 2
        self.register_buffer("freq", 10000 ** (-torch.arange(half) / half))

    def forward(self, tokens, mask):
        x = self.embed(tokens)
        b, n, d = x.shape
        angle = torch.arange(n, device=x.device)[:, None] * self.freq[None].float()
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)

        def rotate(t):
            a, c = t.chunk(2, dim=-1)
            return torch.cat((a * cos - c * sin, c * cos + a * sin), dim=-1)

        for block in self.blocks:
            q, k, v = block["qkv"](block["n1"](x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=mask[:, None, None, :])
            x = x + block["o"](a.transpose(1, 2).reshape(b, n, d))
            x = x + block["down"](F.gelu(block["up"](block["n2"](x))))
        return self.norm(x)


def make_esm(s, device):
    try:
        from transformers import EsmConfig, EsmModel
        config = EsmConfig(vocab_size=33, hidden_size=s.width, num_hidden_layers=s.layers,
                           num_attention_heads=s.heads, intermediate_size=4 * s.width, pad_token_id=1,
                           mask_token_id=32, position_embedding_type="rotary", token_dropout=True,
                           emb_layer_norm_before=False, attn_implementation="sdpa")
        model = EsmModel(config, add_pooling_layer=False).to(device, torch.bfloat16).eval()
        return lambda t, m: model(input_ids=t, attention_mask=m), "transformers"
    except ImportError:
        model = PlainEsm(s.layers, s.width, s.heads).to(device, torch.bfloat16).eval()
        return lambda t, m: model(t, m.bool()), "plain torch"


def esm_tokens_per_second(s, device, sync):
    forward, name = make_esm(s, device)
    all_lengths = sorted(lengths(s.sequences))
    batches = []
    for i in range(0, len(all_lengths), s.sequences_per_batch):
        part = all_lengths[i:i + s.sequences_per_batch]
        tokens = torch.randint(4, 24, (len(part), max(part)), device=device)
        mask = torch.arange(max(part), device=device)[None] < torch.tensor(part, device=device)[:, None]
        batches.append((tokens.masked_fill(~mask, 1), mask.long()))

    @torch.no_grad()
    def run():
        for tokens, mask in batches:
            forward(tokens, mask)

    return sum(all_lengths) / seconds(run, 3, 1, sync), name


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--small", action="store_true", help="a trial of the script itself")
    a.add_argument("--device", default="cuda")
    o = a.parse_args()
    device = torch.device(o.device)
    s = argparse.Namespace(d=1280, features=10240, k=64, batch=4096, layers=33, width=1280, heads=20,
                           sequences=256, sequences_per_batch=32, rounds=7)
    if o.small:
        s = argparse.Namespace(d=320, features=4096, k=32, batch=1024, layers=6, width=320, heads=20,
                               sequences=16, sequences_per_batch=8, rounds=1)
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    torch.backends.cuda.matmul.allow_tf32 = False
    inner = 10 if device.type == "cuda" else 1
    print(f"# torch {torch.__version__}", flush=True)
    for name, autocast, bag in (("dense_fp32", False, False), ("dense_bf16", True, False),
                                ("bag_bf16", True, True)):
        t = seconds(Step(s, device, autocast, bag), s.rounds, inner, sync)
        print(f"step_{name:<23} {1e3 * t:12.4g} ms", flush=True)
    rate, name = esm_tokens_per_second(s, device, sync)
    print(f"# ESM-2 by {name}")
    print(f"esm2_bf16                    {rate:12.4g} tokens/s", flush=True)


if __name__ == "__main__":
    main()
