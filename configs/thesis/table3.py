"""Table 3 of the thesis: seven regularizers and the baseline on CIFAR-10 with the small network.

    python -m experiments.classify --config=configs/thesis/table3.py --workdir=runs/table3

Expected (PUBLISHED, in percent): with 50 images per class 38.8 +- 1.4 without a regularizer and
39.8 +- 0.8 with double backprop (db); with 1000 per class 62.3 +- 0.6 and 65.6 +- 0.7.

`configs/thesis/table3.py:quick` is the first column alone, with 5 seeds, 3 strengths and random
probes in place of exact Jacobian norms; `:smoke` goes the same way on the embedded digits.

Held-out images choose the strengths; in the thesis the test images do: --config.selection=test
"""

from ml_collections import ConfigDict

from configs.thesis import common

# For each method (mean, standard deviation) with 50, 100, 200 and 1000 images per class.
PUBLISHED = {
    "db": ((39.761, 0.78), (46.467, 0.60), (52.352, 0.83), (65.644, 0.65)),
    "jac": ((39.976, 1.06), (46.107, 0.82), (52.348, 0.49), (63.257, 0.44)),
    "fob": ((39.589, 1.04), (46.114, 0.74), (52.426, 0.56), (63.268, 0.44)),
    "NI": ((39.614, 1.15), (45.831, 0.55), (52.217, 0.77), (63.168, 0.51)),
    "baseline": ((38.818, 1.44), (45.270, 0.83), (51.267, 0.80), (62.292, 0.56)),
    "hsfob": ((39.684, 1.08), (46.361, 1.06), (52.255, 0.63), (63.648, 0.41)),
    "hsfob-db1": ((39.781, 0.77), (46.342, 0.70), (52.401, 0.72), (66.031, 0.57)),
    "hsfob-db2": ((39.773, 0.74), (46.621, 0.65), (52.207, 0.79), (66.208, 0.87)),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of Table 3; "quick" is its first column, "smoke" takes few steps."""
    return common.table(
        arg,
        dataset="cifar10",
        model="small_cnn",
        published=PUBLISHED,
        source="Thumwanit, thesis, Table 3",
    )
