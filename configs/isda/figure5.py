"""Figure 5 of the ISDA paper: test errors while WRN-28-10 is trained, with and without ISDA.

    python -m experiments.classify --config=configs/isda/figure5.py --workdir=runs/isda_figure5

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021): CIFAR-100, with
the basic augmentation and with AutoAugment. The curves are `curves_accuracy.png` of the work folder
and on its page; the paper's are not printed as numbers, but for their ends, which are 18.53 and
17.98 % (Table 2), 16.60 and 15.62 % (Table 4). What they show is that ISDA begins to pay with the
third fall of the rate. It needs TFDS's "cifar100" in array_record format and accelerators; `:smoke`
takes the same way with the embedded digits and a small network, in a minute.

The strength is 0.5, which the paper recommends where none is chosen.
"""

from ml_collections import ConfigDict

from configs.isda import common, table2, table4

CELL = ("cifar100", "wide_resnet28_10")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg)
    config = common.without_choice(arg, *CELL)
    auto_augment = common.augmentations(config)[-1]
    losses = {
        "baseline": "cross_entropy",
        "ISDA": common.ISDA,
        "AA": f"cross_entropy | {auto_augment}",
        "AA + ISDA": f"{common.ISDA} | {auto_augment}",
    }
    common.fill_in(config, losses)
    if arg != "smoke":
        config.evaluate_epochs = 1.0
        ends = table2.ERRORS[CELL[1]][1] + table4.ERRORS["_".join(CELL)][-1]
        common.publish(config, "Tables 2 and 4", dict(zip(losses, ends, strict=True)))
    return config
