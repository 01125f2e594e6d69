"""Table 3 of the ISDA paper: what ISDA costs on CIFAR, in FLOPs and in time.

    python -m experiments.benchmark.isda_networks
    python -m experiments.benchmark.isda_networks --time=resnet32,wide_resnet16_8
    python -m experiments.classify --config=configs/isda/table3.py --workdir=runs/isda_table3

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021): the first command
counts what ISDA adds to each network of Table 2 and prints it beside ROWS, in a minute on a CPU;
the second times training steps with and without it instead. The third trains as Table 2 does,
whose cells have the same names, and records the images a second, in `training/*/metrics.jsonl` of
its folder. `configs/isda/table3.py:smoke` takes that way with the embedded digits, in a minute.
"""

from ml_collections import ConfigDict

from configs.isda import table2

# Millions of multiply-adds an image; then for CIFAR-10 and for CIFAR-100 what ISDA adds to them, in
# millions and in percent, and the time that it adds, in percent, on a V100.
ROWS = {
    "resnet32": (69.43, (0.05, 0.07, 1.85), (0.44, 0.63, 1.85)),
    "resnet110": (254.20, (0.05, 0.02, 4.48), (0.44, 0.17, 2.94)),
    "se_resnet110": (254.73, (0.05, 0.02, 2.17), (0.44, 0.17, 1.08)),
    "wide_resnet16_8": (1550.0, (2.96, 0.19, 3.39), (27.19, 1.76, 10.77)),
    "wide_resnet28_10": (5250.0, (4.61, 0.09, 2.37), (42.46, 0.81, 12.35)),
    "resnext29_8x64d": (5390.0, (11.80, 0.22, 1.90), (109.00, 2.02, 12.32)),
    "densenet_bc100_12": (292.38, (1.35, 0.46, 5.50), (12.43, 4.25, 12.03)),
    "shake_shake26_2x32d": (426.69, (0.19, 0.04, 5.77), (1.76, 0.41, 2.21)),
    "shake_shake26_2x112d": (5130.0, (2.31, 0.05, 3.85), (21.30, 0.42, 5.07)),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a cell of Table 2, by default of the first one; "smoke" is small.

    Raises:
      ValueError: an unknown argument.
    """
    return table2.get_config(arg)
