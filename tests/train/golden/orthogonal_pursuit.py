# SPDX-License-Identifier: MIT
# Codes of scikit-learn's orthogonal_mp for a random dictionary, as orthogonal_pursuit.tsv beside this
# file: python3 orthogonal_pursuit.py (numpy, scikit-learn).
import pathlib

import numpy
import sklearn
from sklearn.linear_model import orthogonal_mp

FEATURES, D, ROWS, K = 40, 12, 16, 5

random = numpy.random.default_rng(7)
dictionary = random.normal(size=(FEATURES, D))
dictionary /= numpy.linalg.norm(dictionary, axis=1, keepdims=True)
rows = random.normal(size=(ROWS, D))
rows[3] = 1.5 * dictionary[8] - 0.5 * dictionary[21]  # two latents are the whole row
lines = [f"# scikit-learn {sklearn.__version__}; rows of the dictionary, rows, then per k and row: feature value",
         f"{FEATURES}\t{D}\t{ROWS}\t{K}"]
lines += ["\t".join(repr(float(v)) for v in row) for row in numpy.vstack([dictionary, rows])]
for k in range(1, K + 1):
    for row in rows:
        code = orthogonal_mp(dictionary.T, row, n_nonzero_coefs=k)
        code[numpy.abs(code) < 1e-12] = 0  # a row that is used up
        lines.append("\t".join(f"{f}\t{float(code[f])!r}" for f in numpy.nonzero(code)[0]))
pathlib.Path(__file__).with_suffix(".tsv").write_text("\n".join(lines) + "\n")
