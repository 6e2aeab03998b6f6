# SPDX-License-Identifier: MIT
"""What PyTorch finds in torch files: one line per file, its path below FOLDER, the number of tensors
and a digest of all of them. Run with PyTorch 2.13 and NumPy:

    python torch_digests.py FOLDER > torch_digests.tsv

The digest is SHA-256 over every tensor's name, dtype, shape and row-major bytes in the order of
names, with 64-bit little-endian lengths: weights_file::content_hash. A tensor's name is the way to
it: keys, positions and attributes joined by '/'. Classes that are not installed become plain
objects.
"""
import hashlib
import pickle
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL", torch.uint16: "U16", torch.uint32: "U32",
    torch.uint64: "U64", torch.complex64: "C64",
}


class Stubs:
    """pickle, with a plain class for every name that cannot be imported."""

    __name__ = "pickle"
    load, dumps, loads = pickle.load, pickle.dumps, pickle.loads

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError):
                return type(name, (SimpleNamespace,), {})


def walk(value, path, out):
    join = lambda key: f"{path}/{key}" if path else str(key)
    if isinstance(value, torch.Tensor):
        out[path or "tensor"] = value.detach()
    elif isinstance(value, dict):
        for position, (key, entry) in enumerate(value.items()):
            plain = isinstance(key, (str, int)) and not isinstance(key, bool)
            walk(entry, join(key if plain else f"#{position}"), out)
    elif isinstance(value, (list, tuple, set)):
        for position, entry in enumerate(value):
            walk(entry, join(position), out)
    elif not isinstance(value, type) and hasattr(value, "__dict__"):
        walk(vars(value), path, out)
    return out


def numbers(tensor):
    tensor = tensor.contiguous().cpu()
    return bytes(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""


def digest(tensors):
    sha = hashlib.sha256()
    count = lambda n: sha.update(struct.pack("<Q", n))
    text = lambda s: (count(len(s.encode())), sha.update(s.encode()))
    count(len(tensors))
    for name in sorted(tensors, key=lambda n: n.encode()):
        tensor = tensors[name]
        text(name)
        text(NAMES[tensor.dtype])
        count(tensor.dim())
        for extent in tensor.shape:
            count(extent)
        sha.update(numbers(tensor))
    return sha.hexdigest()


def main(folder):
    paths = [p for p in folder.rglob("*") if p.suffix in (".pt", ".pth", ".bin", ".ckpt")]
    for path in sorted(paths):
        loaded = torch.load(path, map_location="cpu", weights_only=False, pickle_module=Stubs)
        tensors = walk(loaded, "", {})
        print(path.relative_to(folder), len(tensors), digest(tensors), sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
