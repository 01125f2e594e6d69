"""Table 8 of the ISDA paper: what its parts are worth, with WRN-28-10.

    python -m experiments.classify --config=configs/isda/table8.py --workdir=runs/isda_table8

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.5.5: 5 seeds,
protocol as in Table 2. One command is one column, here CIFAR-10 (published errors: 3.82 % basic,
3.58 % ISDA); the others are `configs/isda/table8.py:cifar100` and `:cifar100_cutout`, and ERRORS
has all numbers. Whether strengths grow is a matter of the whole config, so that the row of a
constant one is a command of its own, `:cifar10_constant` and so on; the two folders stand beside
each other on the page of `python -m experiments.report FOLDER FOLDER`. `:smoke` takes the same way
with the embedded digits and a small network, in a minute; otherwise it needs TFDS's "cifar10" or
"cifar100" in array_record format and accelerators.

"Basic" on CIFAR-100 is 18.58 here and 18.53 in Table 2. Small enough for two CPU cores is
`configs/isda/quick.py`.
"""

from ml_collections import ConfigDict

from configs.isda import common

COLUMNS = ("cifar10", "cifar100", "cifar100_cutout")
METHODS = {
    "baseline": "cross_entropy",
    "identity": "isda(strength={strength}, covariance='identity')",
    "diagonal": "isda(strength={strength}, covariance='diagonal')",
    "shared": "isda(strength={strength}, covariance='shared')",
    "ISDA": "isda(strength={strength})",
}
CONSTANT = {"constant strength": "isda(strength={strength})"}
# In the order of COLUMNS.
ERRORS = {
    "baseline": ((3.82, 0.15), (18.58, 0.10), (18.05, 0.25)),
    "identity": ((3.63, 0.12), (18.53, 0.02), (17.83, 0.36)),
    "diagonal": ((3.70, 0.15), (18.23, 0.02), (17.54, 0.20)),
    "shared": ((3.67, 0.07), (18.29, 0.13), (18.12, 0.20)),
    "constant strength": ((3.69, 0.08), (18.33, 0.16), (17.34, 0.15)),
    "ISDA": ((3.58, 0.15), (17.98, 0.15), (16.95, 0.11)),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a column, by default of the first one; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *COLUMNS, *(f"{column}_constant" for column in COLUMNS))
    column = arg.removesuffix("_constant") if arg not in ("", "smoke") else COLUMNS[0]
    config = common.table(arg, column.removesuffix("_cutout"), "wide_resnet28_10")
    constant, with_cutout = arg.endswith("_constant"), column.endswith("_cutout")
    methods = CONSTANT if constant else METHODS
    if with_cutout:
        methods = {name: f"{loss} | {common.cutout(config)}" for name, loss in methods.items()}
    common.fill_in(config, methods)
    if constant:
        config.growing = ConfigDict()
    if arg != "smoke":
        errors = {name: row[COLUMNS.index(column)] for name, row in ERRORS.items()}
        common.publish(config, "Table 8", errors)
    return config
