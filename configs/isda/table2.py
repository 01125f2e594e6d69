"""Table 2 of the ISDA paper: nine networks on CIFAR-10 and CIFAR-100, with and without ISDA.

    python -m experiments.classify --config=configs/isda/table2.py --workdir=runs/isda_table2

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021): the recipes of
Table 9, 5 seeds; the strength, which grows linearly, is chosen on 5,000 held-out images, and what
is reported is the mean over the last 10 epochs. One command is one cell, here ResNet-32 on
CIFAR-10, whose published errors are 7.39 and 7.09 %. The others are named data set first, such as
`configs/isda/table2.py:cifar100_wide_resnet28_10`: ERRORS has the numbers to expect, all in
percent. `:cifar10_shake_pyramidnet` has the conference version's recipe and no number. It needs
TFDS's "cifar10" or "cifar100" in array_record format and accelerators. `:smoke` takes the same way
with the embedded digits and a small network, in a minute.

What two CPU cores can say is in `configs/isda/quick.py`.
"""

from ml_collections import ConfigDict

from configs.isda import common

NETWORKS = tuple(common.NETWORKS)
METHODS = {"baseline": "cross_entropy", "ISDA": "isda(strength={strength})"}
# By network for CIFAR-10, then CIFAR-100: basic, ISDA.
ERRORS = {
    "resnet32": (((7.39, 0.10), (7.09, 0.12)), ((31.20, 0.41), (30.27, 0.34))),
    "resnet110": (((6.76, 0.34), (6.33, 0.19)), ((28.67, 0.44), (27.57, 0.46))),
    "se_resnet110": (((6.14, 0.17), (5.96, 0.21)), ((27.30, 0.03), (26.63, 0.21))),
    "wide_resnet16_8": (((4.25, 0.18), (4.04, 0.29)), ((20.24, 0.27), (19.91, 0.21))),
    "wide_resnet28_10": (((3.82, 0.15), (3.58, 0.15)), ((18.53, 0.07), (17.98, 0.15))),
    "resnext29_8x64d": (((3.86, 0.14), (3.67, 0.12)), ((18.16, 0.13), (17.43, 0.25))),
    "densenet_bc100_12": (((4.90, 0.08), (4.54, 0.07)), ((22.61, 0.10), (22.10, 0.34))),
    "shake_shake26_2x32d": (((3.45, 0.01), (3.20, 0.03)), ((20.12, 0.39), (19.45, 0.16))),
    "shake_shake26_2x112d": (((2.92, 0.02), (2.61, 0.09)), ((17.42, 0.44), (16.73, 0.18))),
}
# Printed beside them, in millions.
PARAMETERS = {
    "resnet32": 0.5,
    "resnet110": 1.7,
    "se_resnet110": 1.7,
    "wide_resnet16_8": 11.0,
    "wide_resnet28_10": 36.5,
    "resnext29_8x64d": 34.4,
    "densenet_bc100_12": 0.8,
    "shake_shake26_2x32d": 3.0,
    "shake_shake26_2x112d": 36.4,
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a cell, by default of the first one; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    dataset, network, _ = common.cell(arg, NETWORKS)
    config = common.table(arg, dataset, network)
    common.fill_in(config, METHODS)
    if arg != "smoke" and network in ERRORS:
        errors = ERRORS[network][common.DATASETS.index(dataset)]
        common.publish(config, "Table 2", dict(zip(METHODS, errors, strict=True)))
    return config
