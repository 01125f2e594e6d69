"""Figure 10 of the ISDA paper: explicit semantic augmentation with M samples, and ISDA.

    python -m experiments.classify --config=configs/isda/figure10.py --workdir=runs/isda_figure10

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.5.3: WRN-28-10
on CIFAR-100 with Cutout, or with AutoAugment: `configs/isda/figure10.py:auto_augment`. M = 0 is the
baseline and M = infinity is ISDA, whose published errors are 18.05 and 16.95 % with Cutout, 16.60
and 15.62 % with AutoAugment (Table 4). "Learned" are covariances that are trained by gradient
descent. The figure is not printed as numbers: what it shows is that few samples gain less than
ISDA, more of them come near it, and learned covariances stay behind, at every M and under the
bound. It needs TFDS's "cifar100" in array_record format and accelerators; `:smoke` takes the same
way with the embedded digits and a small network, in two minutes.

The text names M = 1, 2 and 5; 10 and 20 are chosen here, as are the numbers of the learned
covariances' uncertainty term. Their factors are 41 million parameters. All strengths are 0.5.
"""

from ml_collections import ConfigDict

from configs.isda import common, table4

SAMPLES = (1, 2, 5, 10, 20)
CELL = ("cifar100", "wide_resnet28_10")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "auto_augment" is the other half, "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "auto_augment")
    config = common.without_choice(arg, *CELL)
    which = -1 if arg == "auto_augment" else 0
    stage = common.augmentations(config)[which]
    samples = SAMPLES[:2] if arg == "smoke" else SAMPLES
    explicit = {f"explicit, M={m}": common.explicit(m) for m in samples}
    learned = {f"learned, M={m}": common.learned(m) for m in samples}
    learned["learned, M=infinity"] = common.learned(None)
    # All others train as without the covariances.
    config.model = f"with_covariances(model={config.model!r})"
    losses = {"baseline": "cross_entropy", **explicit, "ISDA": common.ISDA, **learned}
    common.fill_in(config, {name: f"{loss} | {stage}" for name, loss in losses.items()})
    config.growing.explicit_augmentation = ConfigDict({"strength": "linear"})
    if arg != "smoke":
        basic, isda = table4.ERRORS["_".join(CELL)][which]
        common.publish(config, "Table 4", {"baseline": basic, "ISDA": isda})
    return config
