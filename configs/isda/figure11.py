"""Figure 11 (a) of the ISDA paper: how much the strength matters.

    python -m experiments.classify --config=configs/isda/figure11.py --workdir=runs/isda_figure11

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.5.4: WRN-28-10
on CIFAR-100 with Cutout. Every strength's accuracy is in `results.json` and the figure is
`accuracy_by_strength.png`. Published errors are 18.05 % without ISDA and 16.95 % at the strength
that was chosen (Table 4); the figure is not printed as numbers, but the text says that 0.25 to 1 do
well, that 5 still gains, and that 10 is slightly worse than the baseline. It needs TFDS's
"cifar100" in array_record format and accelerators; `:smoke` takes the same way with the embedded
digits and a small network, in two minutes.
"""

from ml_collections import ConfigDict

from configs.isda import common, table4

STRENGTHS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
CELL = ("cifar100", "wide_resnet28_10")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg)
    config = common.without_choice(arg, *CELL)
    cutout = common.cutout(config)
    losses = {"baseline": "cross_entropy", "ISDA": "isda(strength={strength})"}
    common.fill_in(config, {name: f"{loss} | {cutout}" for name, loss in losses.items()})
    if arg != "smoke":
        config.strengths = ConfigDict({"ISDA": STRENGTHS})
        errors = table4.ERRORS["_".join(CELL)][0]
        common.publish(config, "Table 4", dict(zip(losses, errors, strict=True)))
    return config
