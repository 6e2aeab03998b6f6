# SPDX-License-Identifier: MIT
"""One small ESM-2 in every layout that people have, written by the libraries that write them.

    python weights_layouts.py tiny.model.safetensors FOLDER

The model is cut from a larger one (2 blocks, width 12, 3 heads, feed-forward 48) and rounded to
half precision, so that the file of halves holds the same numbers. Made with PyTorch 2.13 and
safetensors 0.8 and fair-esm 2.0.0. FOLDER gets

    single/model.safetensors             what the others are compared with
    single_bin/pytorch_model.bin         with the tied decoder and position_ids, as older uploads
    legacy_bin/pytorch_model.bin         the format before PyTorch 1.6
    sharded/model.safetensors.index.json         and two shards
    sharded_bin/pytorch_model.bin.index.json     and two shards
    fair/esm2_t2_tiny.pt                 fair-esm's checkpoint, in half precision, settings as
                                         argparse.Namespace
    fair/esm2_t2_tiny-contact-regression.pt
    fair_state/esm2_t2_tiny.pt           state_dict() of the loaded model, contact head included
    expected.safetensors                 what fair-esm 2.0.0 computes from fair/esm2_t2_tiny.pt
"""
import argparse
import json
import re
import sys
from collections import OrderedDict
from pathlib import Path

import esm
import torch
from safetensors.torch import load_file, save_file

WIDTH, HEADS, WIDE, BLOCKS = 12, 3, 48, 2


def cut(full):
    small = {}
    for name, tensor in full.items():
        block = re.search(r"\.layer\.(\d+)\.", name)
        if (block and int(block[1]) >= BLOCKS) or "position" in name:
            continue
        wanted = {48: WIDTH, 192: WIDE, 33: 33, 6: WIDTH // HEADS // 2, 1: 1, 12: BLOCKS * HEADS}
        index = tuple(slice(wanted[n]) for n in tensor.shape)
        small[name] = tensor[index].half().float().contiguous()
    return small


def fair_names(model):
    parts = [
        ("attention.self.query.", "self_attn.q_proj."), ("attention.self.key.", "self_attn.k_proj."),
        ("attention.self.value.", "self_attn.v_proj."),
        ("attention.self.rotary_embeddings.", "self_attn.rot_emb."),
        ("attention.output.dense.", "self_attn.out_proj."),
        ("attention.LayerNorm.", "self_attn_layer_norm."), ("LayerNorm.", "final_layer_norm."),
        ("intermediate.dense.", "fc1."), ("output.dense.", "fc2."),
    ]
    out = OrderedDict()
    for name, tensor in model.items():
        name = name.removeprefix("esm.").replace("encoder.layer.", "layers.")
        name = name.replace("encoder.emb", "emb").replace("embeddings.word_embeddings", "embed_tokens")
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            ours, fair = next(p for p in parts if rest.startswith(p[0]))
            name = f"layers.{number}.{fair}{rest.removeprefix(ours)}"
        out[name] = tensor
    out["lm_head.weight"] = out["embed_tokens.weight"]
    return out


def shards(model, folder, pattern, save):
    folder.mkdir(parents=True)
    names = sorted(model)
    half = len(names) // 2
    weight_map = {}
    for number, part in enumerate((names[:half], names[half:]), 1):
        file = pattern.format(number)
        save({name: model[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.numel() * t.element_size() for t in model.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    ending = ".safetensors" if pattern.endswith(".safetensors") else ".bin"
    stem = "model" if ending == ".safetensors" else "pytorch_model"
    (folder / f"{stem}{ending}.index.json").write_text(json.dumps(index, indent=2) + "\n")


def main(source, folder):
    model = cut(load_file(source))
    for name in ("single", "single_bin", "legacy_bin", "fair", "fair_state"):
        (folder / name).mkdir(parents=True)
    save_file(model, folder / "single" / "model.safetensors", metadata={"format": "pt"})

    older = OrderedDict(model)
    older["lm_head.decoder.weight"] = older["esm.embeddings.word_embeddings.weight"]
    older["esm.embeddings.position_ids"] = torch.arange(8).expand((1, -1))
    torch.save(older, folder / "single_bin" / "pytorch_model.bin")
    torch.save(older, folder / "legacy_bin" / "pytorch_model.bin",
               _use_new_zipfile_serialization=False)
    shards(model, folder / "sharded", "model-{:05d}-of-00002.safetensors",
           lambda part, path: save_file(part, path, metadata={"format": "pt"}))
    shards(model, folder / "sharded_bin", "pytorch_model-{:05d}-of-00002.bin", torch.save)

    fair = fair_names(model)
    contacts = {n: fair.pop(n) for n in list(fair) if n.startswith("contact_head.")}
    torch.save(OrderedDict(fair, **contacts), folder / "fair_state" / "esm2_t2_tiny.pt")
    prefixed = OrderedDict()
    for name, tensor in fair.items():
        head = name.startswith("lm_head.")
        prefixed[("encoder." if head else "encoder.sentence_encoder.") + name] = tensor.half()
    settings = argparse.Namespace(encoder_layers=BLOCKS, encoder_embed_dim=WIDTH,
                                  encoder_attention_heads=HEADS, token_dropout=True, arch="esm2")
    torch.save({"cfg": {"model": settings}, "model": prefixed}, folder / "fair" / "esm2_t2_tiny.pt")
    torch.save({"model": contacts}, folder / "fair" / "esm2_t2_tiny-contact-regression.pt")
    expect(folder)


def expect(folder):
    load, torch.load = torch.load, lambda f, **k: load(f, **k | {"weights_only": False})
    model, alphabet = esm.pretrained.load_model_and_alphabet_local(folder / "fair/esm2_t2_tiny.pt")
    torch.load = load
    model = model.float().eval()
    out = {}
    for key, text in ("plain", "MKTAYIAKQRQISFVKSHFSRQ"), ("masked", "MKT<mask>YIAX<mask>Q"):
        _, _, tokens = alphabet.get_batch_converter()([(key, text)])
        with torch.no_grad():
            got = model(tokens, repr_layers=range(BLOCKS + 1), return_contacts=True)
        states = [got["representations"][i][0] for i in range(BLOCKS + 1)]
        out[f"{key}.tokens"] = tokens[0].to(torch.int32)
        out[f"{key}.positions"] = torch.arange(len(tokens[0]), dtype=torch.int32)
        out[f"{key}.hidden"] = torch.stack(states).contiguous()
        out[f"{key}.logits"] = got["logits"][0].contiguous()
        out[f"{key}.contacts"] = got["contacts"][0].contiguous()
    save_file(out, folder / "expected.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
