"""Figure 8 of the ISDA paper: the features of ResNet-110 with and without ISDA, by t-SNE.

    python -m experiments.classify --config=configs/isda/figure8.py --workdir=runs/isda_figure8
    python -m experiments.gallery.feature_map runs/isda_figure8 --output=feature_map.png

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), (a) and (b):
CIFAR-10, networks as in Table 2, whose published errors are 6.76 and 6.33 %. The second command
draws the test images' features and prints how well t-SNE shows them (its KL divergence) and how
many of their 10 nearest neighbours are of their class. The paper has the picture only. It needs
TFDS's "cifar10" in array_record format and accelerators; `:smoke` takes the same way with the
embedded digits and a small network, in a minute.

(c) and (d) are `configs/isda/figure8.py:semi`: CNN-13 with VAT and 4,000 labels, as in Table 6,
whose published errors are 11.10 and 9.72 %.

The strength is 0.5, which the paper recommends where none is chosen.
"""

from ml_collections import ConfigDict

from configs.isda import common, table2, table6


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "semi")
    if arg == "semi":
        config = table6.start("cifar10_4000", table6.ISDA)
        table6.fill_in(config, ("VAT", "VAT + ISDA"), common.GRID[2:3])
        table6.publish(config, "cifar10_4000")
        return config
    config = common.without_choice(arg, "cifar10", "resnet110")
    losses = {"baseline": "cross_entropy", "ISDA": common.ISDA}
    common.fill_in(config, losses)
    if arg != "smoke":
        errors = table2.ERRORS["resnet110"][0]
        common.publish(config, "Table 2", dict(zip(losses, errors, strict=True)))
    return config
