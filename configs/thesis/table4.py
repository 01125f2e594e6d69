"""Table 4 of the thesis: seven regularizers and the baseline on CIFAR-10 with the small ResNet.

    python -m experiments.classify --config=configs/thesis/table4.py --workdir=runs/table4

Expected (PUBLISHED, in percent): with 50 images per class 31.5 +- 3.0 without a regularizer and
36.6 +- 0.9 with double backprop (db); with 1000 per class 64.9 +- 2.2 and 72.0 +- 0.9.

`configs/thesis/table4.py:quick` is the first column alone, with 5 seeds, 3 strengths and random
probes in place of exact Jacobian norms; `:smoke` goes the same way on the embedded digits.

Held-out images choose the strengths; in the thesis the test images do: --config.selection=test
"""

from ml_collections import ConfigDict

from configs.thesis import common

# For each method (mean, standard deviation) with 50, 100, 200 and 1000 images per class.
PUBLISHED = {
    "db": ((36.599, 0.87), (42.156, 1.77), (49.245, 1.43), (71.968, 0.86)),
    "jac": ((36.063, 1.01), (40.040, 0.73), (45.720, 0.65), (64.128, 1.13)),
    "fob": ((36.318, 0.73), (40.861, 1.35), (45.674, 0.78), (64.207, 1.13)),
    "NI": ((35.504, 0.64), (39.302, 1.10), (45.837, 2.01), (68.628, 0.70)),
    "baseline": ((31.451, 3.02), (31.992, 4.42), (39.295, 2.87), (64.893, 2.18)),
    "hsfob": ((35.791, 0.47), (40.786, 0.61), (46.016, 0.25), (64.465, 1.22)),
    "hsfob-db1": ((36.191, 0.86), (41.985, 1.07), (48.931, 1.44), (71.852, 1.20)),
    "hsfob-db2": ((37.021, 1.40), (42.089, 1.05), (47.908, 1.37), (72.247, 0.67)),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of Table 4; "quick" is its first column, "smoke" takes few steps."""
    return common.table(
        arg,
        dataset="cifar10",
        model="thesis_resnet",
        published=PUBLISHED,
        source="Thumwanit, thesis, Table 4",
    )
