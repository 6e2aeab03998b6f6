#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does SAELens open what `plmscope convert --to saelens` writes, and compute the same?

    python saelens_loads.py PROGRAM DATA

Needs sae-lens (made with 6.54.12). For every fixture of DATA/sae_formats that SAELens can hold, its file
is converted and opened by SAE.load_from_disk; codes and reconstructions are compared with those that the
fixture's own library computed. Run by hand: the tests of this repository need no Python.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch
from sae_lens import SAE
from safetensors.torch import load_file

# folder: (file, flags, codes, recon)
FIXTURES = {
    "bionemo_topk": ("checkpoint_final.pt", [], "codes", "recon"),
    "bussmann_batchtopk": ("sae.pt", [], "codes", "recon"),
    "bussmann_jumprelu": ("sae.pt", [], "codes", "recon"),
    "bussmann_topk": ("sae.pt", [], "codes", "recon"),
    "bussmann_vanilla": ("sae.pt", [], "codes", "recon"),
    "crosscoder_fork_batchtopk": ("model_final.pt", [], "codes", "recon"),
    "crosscoder_fork_batchtopk_normalizer":
        ("model_final.pt", ["--relative-variance", "yes"], "codes", "recon"),
    "crosscoder_fork_l1": ("model_final.pt", [], "codes", "recon"),
    "dictionary_learning_batchtopk": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_gated": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_jumprelu": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_matryoshka": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_standard": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_standard_april": ("ae.pt", [], "codes", "recon"),
    "dictionary_learning_topk": ("ae.pt", [], "codes", "recon"),
    "gujral_sae": ("model.ckpt", ["--transcoder", "no"], "codes", "recon"),
    "interplm_relu": ("ae.pt", [], "codes", "recon"),
    "interplm_relu_sqrtd": ("ae.pt", [], "forward_codes", "forward_recon_unnormalized"),
    "interprot_lightning": ("last.ckpt", [], "codes", "recon"),
    "interprot_safetensors":
        ("esm2_plm48_l6_sae160.safetensors", ["--k", "6"], "codes", "recon"),
    "openai_relu": ("autoencoder.pt", [], "codes", "recon"),
    "openai_topk": ("autoencoder.pt", [], "codes", "recon"),
    "saelens_batchtopk": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_batchtopk_training_checkpoint":
        ("sae_weights.safetensors", [], "codes_threshold", None),
    "saelens_gated": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_jumprelu": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_jumprelu_transcoder": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_skip_transcoder": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_standard": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_standard_layernorm": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_topk": ("sae_weights.safetensors", [], "codes", "recon"),
    "saelens_transcoder": ("sae_weights.safetensors", [], "codes", "recon"),
    "sparsify_topk": ("sae.safetensors", [], "codes", "recon"),
}


def deviation(have, want):
    return ((have - want).abs().max() / want.abs().max()).item()


def main():
    program, data = sys.argv[1], pathlib.Path(sys.argv[2])
    bad = 0
    for name, (file, flags, codes, recon) in FIXTURES.items():
        folder = data / "sae_formats" / name
        with tempfile.TemporaryDirectory() as scratch:
            subprocess.run([program, "convert", folder / file, scratch, "--to", "saelens", *flags],
                           check=True, capture_output=True)
            sae = SAE.load_from_disk(scratch)
        expected = load_file(folder / "expected.safetensors")
        x = expected["x"]
        with torch.no_grad():
            z, y = sae.encode(x), sae(x)
        worst = deviation(z, expected[codes])
        if recon is not None:
            worst = max(worst, deviation(y, expected[recon].reshape(y.shape)))
        limit = 3e-5 if name == "gujral_sae" else 3e-6  # its deviation is the biased one
        bad += not worst <= limit
        print(f"{name:45} {type(sae).__name__:20} {worst:.2e}{'' if worst <= limit else '  WRONG'}")
    print(f"{len(FIXTURES)} fixtures, {bad} wrong")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
