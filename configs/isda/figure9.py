"""Figure 9 of the ISDA paper: its bound, and what it bounds, while ResNet-110 is trained.

    python -m experiments.classify --config=configs/isda/figure9.py --workdir=runs/isda_figure9
    python -m experiments.gallery.isda_bound runs/isda_figure9 --output=isda_bound.png

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.5.2: CIFAR-10,
and CIFAR-100 by `configs/isda/figure9.py:cifar100`. The first command keeps a checkpoint of every
fourth epoch; the second reads the losses off these, the expected one by 1,000 draws an image as in
the paper. What the figure shows is that the bound lies close above; it is not printed as numbers.
It needs TFDS's "cifar10" or "cifar100" in array_record format and accelerators; `:quick` takes 500
images of "cifar10_jpeg" and a ResNet-8 as in `configs/isda/quick.py`, some minutes on two CPU
cores, and `:smoke` the embedded digits, in a minute.

The strength is 0.5, which the paper recommends where none is chosen.
"""

from ml_collections import ConfigDict

from configs.isda import common, quick, table2


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "cifar100" is the other half, "quick" and "smoke" are smaller.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *common.DATASETS, "quick")
    if arg == "quick":
        return _quick()
    dataset = arg if arg in common.DATASETS else "cifar10"
    config = common.without_choice(arg, dataset, "resnet110")
    config.seeds = 1
    common.fill_in(config, {"ISDA": common.ISDA})
    config.evaluate_epochs, config.keep_checkpoints = (1.0, 2) if arg == "smoke" else (4.0, 40)
    config.checkpoint_steps = 0
    if arg != "smoke":
        _, error = table2.ERRORS["resnet110"][common.DATASETS.index(dataset)]
        common.publish(config, "Table 2", {"ISDA": error})
    return config


def _quick() -> ConfigDict:
    config = quick.get_config("cifar10")
    config.seeds = config.runs_at_once = 1
    common.fill_in(config, {"ISDA": common.ISDA})
    config.evaluate_epochs, config.keep_checkpoints, config.checkpoint_steps = 10.0, 15, 0
    return config
