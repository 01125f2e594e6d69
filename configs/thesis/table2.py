"""Table 2 of the thesis: seven regularizers and the baseline on MNIST with the small network.

    python -m experiments.classify --config=configs/thesis/table2.py --workdir=runs/table2

Expected (PUBLISHED, in percent): with 50 images per class 90.2 +- 0.5 without a regularizer and
92.3 +- 0.5 with double backprop (db); with 1000 per class 98.0 +- 0.1 and 98.4 +- 0.1.

`configs/thesis/table2.py:quick` is the first column alone, with 5 seeds, 3 strengths and random
probes in place of exact Jacobian norms; `:smoke` goes the same way on the embedded digits.

Held-out images choose the strengths; in the thesis the test images do: --config.selection=test
"""

from ml_collections import ConfigDict

from configs.thesis import common

# For each method (mean, standard deviation) with 50, 100, 200 and 1000 images per class.
PUBLISHED = {
    "db": ((92.273, 0.49), (95.010, 0.47), (96.725, 0.19), (98.378, 0.10)),
    "jac": ((91.010, 0.44), (94.215, 0.31), (96.458, 0.17), (98.258, 0.09)),
    "fob": ((90.828, 0.36), (94.274, 0.40), (96.433, 0.21), (98.311, 0.03)),
    "NI": ((91.283, 0.64), (94.180, 0.33), (96.475, 0.24), (98.260, 0.08)),
    "baseline": ((90.195, 0.45), (93.528, 0.48), (96.017, 0.28), (98.015, 0.14)),
    "hsfob": ((90.881, 0.34), (94.106, 0.28), (96.479, 0.18), (98.256, 0.09)),
    "hsfob-db1": ((92.239, 0.49), (95.090, 0.49), (96.862, 0.19), (98.389, 0.13)),
    "hsfob-db2": ((92.139, 0.34), (95.012, 0.41), (96.849, 0.20), (98.380, 0.08)),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of Table 2; "quick" is its first column, "smoke" takes few steps."""
    return common.table(
        arg,
        dataset="mnist",
        model="small_cnn",
        published=PUBLISHED,
        source="Thumwanit, thesis, Table 2",
    )
