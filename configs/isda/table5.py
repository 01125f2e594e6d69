"""Table 5 of the ISDA paper: ISDA among robust losses, dropout and augmentation by generators.

    python -m experiments.classify --config=configs/isda/table5.py --workdir=runs/isda_table5

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021): 5 seeds, protocol
as in Table 2. One command is one column, here ResNet-110 on CIFAR-10 (published errors: 6.76 %
basic, 6.33 % ISDA); the others are `configs/isda/table5.py:cifar100_resnet110`,
`:cifar10_wide_resnet28_10` and `:cifar100_wide_resnet28_10`, and ERRORS has all numbers.
`:cifar10_resnet110_dropout` are the two rows with dropout, which is a matter of the network; of
WRN-28-10 all rows have it. The two folders stand beside each other on the page of
`python -m experiments.report FOLDER FOLDER`. `:smoke` takes the same way with the embedded digits
and a small network, in two minutes; otherwise it needs TFDS's "cifar10" or "cifar100" in
array_record format and accelerators.

The rows of WGAN, CGAN, ACGAN and infoGAN are `:cifar10_resnet110_wgan`, `_cgan`, `_acgan` and
`_infogan`, each in a folder of its own, since the runs of one comparison share their data: a sixth
of every batch, 21 of 128, are images in the folder `runs/samples/cifar10_wgan`, which

    python -m experiments.generate.samples runs/generators --output=runs/samples/cifar10_wgan

writes of a trained generator, for any network. The paper says no more than that share; here an
epoch is one of the real images, 107 a batch, so that these rows take a fifth more steps, samples
are cropped and flipped as real images are, and their label is the class that was asked for. It has
no WGAN on CIFAR-100. The rivals' numbers are the paper's, as far as it has them (focal loss, L_q,
disturb label, rate of the center loss); those of large margin, the center loss's weight, label
smoothing and DistributionNet are of their own papers or programs, see `configs/isda/common.py`.
"""

from ml_collections import ConfigDict

from configs.isda import common

NETWORKS = ("resnet110", "wide_resnet28_10")
COLUMNS = tuple(f"{dataset}_{network}" for network in NETWORKS for dataset in common.DATASETS)
GENERATORS = {"_wgan": "WGAN", "_cgan": "CGAN", "_acgan": "ACGAN", "_infogan": "infoGAN"}
FORMS = ("", "_dropout", *GENERATORS)
DROPOUT = {"dropout": "cross_entropy", "ISDA + dropout": "isda(strength={strength})"}
# In the order of COLUMNS.
ERRORS = {
    "large margin": ((6.46, 0.20), (28.00, 0.09), (3.69, 0.10), (18.48, 0.05)),
    "disturb label": ((6.61, 0.04), (28.46, 0.32), (3.91, 0.10), (18.56, 0.22)),
    "focal": ((6.68, 0.22), (28.28, 0.32), (3.62, 0.07), (18.22, 0.08)),
    "center": ((6.38, 0.20), (27.85, 0.10), (3.76, 0.05), (18.50, 0.25)),
    "L_q": ((6.69, 0.07), (28.78, 0.35), (3.78, 0.08), (18.43, 0.37)),
    "label smoothing": ((6.58, 0.42), (27.89, 0.20), (3.79, 0.16), (18.48, 0.24)),
    "DistributionNet": ((6.35, 0.11), (28.18, 0.44), (3.68, 0.06), (18.34, 0.16)),
    "WGAN": ((6.63, 0.23), None, (3.81, 0.08), None),
    "CGAN": ((6.56, 0.14), (28.25, 0.36), (3.84, 0.07), (18.79, 0.08)),
    "ACGAN": ((6.32, 0.12), (28.48, 0.44), (3.81, 0.11), (18.54, 0.05)),
    "infoGAN": ((6.59, 0.12), (27.64, 0.14), (3.81, 0.05), (18.44, 0.10)),
    "baseline": ((6.76, 0.34), (28.67, 0.44), None, None),
    "dropout": ((6.23, 0.11), (27.11, 0.06), (3.82, 0.15), (18.53, 0.07)),
    "ISDA": ((6.33, 0.19), (27.57, 0.46), None, None),
    "ISDA + dropout": ((5.98, 0.20), (26.35, 0.30), (3.58, 0.15), (17.98, 0.15)),
}


def methods(dataset: str, network: str) -> dict[str, str]:
    """The rows that are trained, by name the loss."""
    noise = 0.1 if (dataset, network) == ("cifar100", "resnet110") else 0.05
    rivals = {
        "large margin": common.LARGE_MARGIN,
        "disturb label": f"cross_entropy | disturb_label(rate={noise})",
        "focal": common.FOCAL,
        "center": common.CENTER,
        "L_q": "generalized_cross_entropy(q=0.4)",
        "label smoothing": common.SMOOTHING,
        "DistributionNet": common.DISTRIBUTION_NET,
    }
    own = {"baseline": "cross_entropy", "ISDA": "isda(strength={strength})"}
    return rivals | (own if network == "resnet110" else DROPOUT)


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a column, by default of the first one; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    dataset, network, form = common.cell(arg, NETWORKS, FORMS)
    config = common.table(arg, dataset, network)
    column = COLUMNS.index(f"{dataset}_{network}")
    if form in GENERATORS:
        config.mixture = common.sixth(f"npz:runs/samples/{dataset}{form}")
        common.fill_in(config, {GENERATORS[form]: "cross_entropy"})
    elif form:
        config.model = f"{network}(dropout=0.3)"
        common.fill_in(config, DROPOUT)
    else:
        # For DistributionNet; all others train as without a second head.
        config.model = f"two_headed(model={config.model!r})"
        common.fill_in(config, methods(dataset, network))
    if arg != "smoke":
        errors = {name: row[column] for name, row in ERRORS.items()}
        common.publish(config, "Table 5", errors)
    return config
