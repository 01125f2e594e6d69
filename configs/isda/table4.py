"""Table 4 of the ISDA paper: Cutout, RandAugment and AutoAugment, each with and without ISDA.

    python -m experiments.classify --config=configs/isda/table4.py --workdir=runs/isda_table4

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021): 5 seeds, protocol
as in Table 2. One command is three cells' worth, here WRN-28-10 on CIFAR-10 (published errors: 2.99
and 2.83 % with Cutout, 2.78 and 2.42 % with RandAugment, 2.65 and 2.56 % with AutoAugment); the
others are `configs/isda/table4.py:cifar100_shake_shake26_2x32d` and the like, and ERRORS has their
numbers. It needs TFDS's "cifar10" or "cifar100" in array_record format and accelerators. `:smoke`
takes the same way with the embedded digits and a small network, in two minutes.

AutoAugment is the policy of CIFAR-10 for both data sets, and a Cutout of 16 pixels always follows
it, as in the authors' program. Of RandAugment neither paper nor program has the numbers: here they
are those of RandAugment's own paper for WRN-28-10 (and its Shake-Shake, for both data sets), with
the same Cutout behind.
"""

from ml_collections import ConfigDict

from configs.isda import common

NETWORKS = ("wide_resnet28_10", "shake_shake26_2x32d", "shake_shake26_2x112d")
# Operations an image and their magnitude.
RAND_AUGMENT = {
    "cifar10_wide_resnet28_10": (3, 5),
    "cifar100_wide_resnet28_10": (2, 14),
}
SHAKE_SHAKE = (3, 9)
NAMES = ("Cutout", "RA", "AA")
# By data set and network: with Cutout, RandAugment and AutoAugment, each alone and with ISDA.
ERRORS = {
    "cifar10_wide_resnet28_10": (
        ((2.99, 0.06), (2.83, 0.04)),
        ((2.78, 0.03), (2.42, 0.13)),
        ((2.65, 0.07), (2.56, 0.01)),
    ),
    "cifar10_shake_shake26_2x32d": (
        ((3.16, 0.09), (2.93, 0.03)),
        ((3.00, 0.05), (2.74, 0.03)),
        ((2.89, 0.09), (2.68, 0.12)),
    ),
    "cifar10_shake_shake26_2x112d": (
        ((2.36, None), (2.25, None)),
        ((2.10, None), (1.76, None)),
        ((2.01, None), (1.82, None)),
    ),
    "cifar100_wide_resnet28_10": (
        ((18.05, 0.25), (16.95, 0.11)),
        ((17.30, 0.08), (15.97, 0.28)),
        ((16.60, 0.40), (15.62, 0.32)),
    ),
    "cifar100_shake_shake26_2x32d": (
        ((18.92, 0.21), (18.17, 0.08)),
        ((18.11, 0.24), (17.84, 0.16)),
        ((17.50, 0.19), (17.21, 0.33)),
    ),
    "cifar100_shake_shake26_2x112d": (
        ((17.34, 0.28), (16.24, 0.20)),
        ((15.95, 0.15), (14.24, 0.07)),
        ((15.21, 0.20), (13.87, 0.26)),
    ),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a line, by default of the first one; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    dataset, network, _ = common.cell(arg, NETWORKS)
    line = f"{dataset}_{network}"
    config = common.table(arg, dataset, network)
    stages = common.augmentations(config, *RAND_AUGMENT.get(line, SHAKE_SHAKE))
    rows: dict[str, common.Error] = {}
    losses: dict[str, str] = {}
    for name, stage, (alone, both) in zip(NAMES, stages, ERRORS[line], strict=True):
        losses |= {name: f"cross_entropy | {stage}"}
        losses |= {f"{name} + ISDA": f"isda(strength={{strength}}) | {stage}"}
        rows |= {name: alone, f"{name} + ISDA": both}
    common.fill_in(config, losses)
    if arg != "smoke":
        common.publish(config, "Table 4", rows)
    return config
