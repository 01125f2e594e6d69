"""Figure 11 (b) of the ISDA paper: how much the strength matters in semi-supervised learning.

    python -m experiments.classify --config=configs/isda/figure11b.py --workdir=runs/isda_figure11b

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.5.4: VAT with
ISDA on CIFAR-10 with 4,000 labels, as in Table 6. Every strength's accuracy is in `results.json`
and the figure is `accuracy_by_strength.png`. Published errors are 11.10 % without ISDA and 9.72 %
at the strength that was chosen (Table 6); the figure is not printed as numbers, but the text says
of it what it says of Figure 11 (a). It needs TFDS's "cifar10" in array_record format and
accelerators; `:smoke` takes the same way with the embedded digits and a small network, in two
minutes.
"""

from ml_collections import ConfigDict

from configs.isda import common, figure11, table6


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg)
    config = table6.start("cifar10_4000", table6.ISDA)
    if arg == "smoke":
        table6.shrink(config)
    strengths = common.GRID[:2] if arg == "smoke" else figure11.STRENGTHS
    table6.fill_in(config, ("VAT", "VAT + ISDA"), strengths)
    if arg != "smoke":
        table6.publish(config, "cifar10_4000")
    return config
