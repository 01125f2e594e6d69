"""Tables 2, 5 and 8 of the ISDA paper as far as two CPU cores can say something.

    python -m experiments.classify --config=configs/isda/quick.py --workdir=runs/isda_quick/cifar10

and likewise `configs/isda/quick.py:cifar10_constant`, `:cifar10_dropout`, `:cifar100`,
`:cifar100_constant` and `:cifar100_dropout`, each in a folder of its own; they stand beside each
other on the page of

    python -m experiments.report runs/isda_quick/cifar10* --output=isda_quick.html

Plain training, ISDA with the covariances of Table 8, and two rivals of Table 5, each with 3
seeds, on 500 images of the lossy "cifar10_jpeg" or 1,000 of "cifar100_jpeg", brought to half their
height and width, so long that a ResNet-8 overfits: about 45 minutes in all. `_constant` is ISDA
whose strength does not grow, `_dropout` plain training and ISDA in a network with dropout, since
both are a matter of the whole config. What is published is of other networks and of all images, and
no number to compare with: what can be compared is the order of the methods. Where there is a GPU,
`--config.image_size=0 --config.model=resnet20` is nearer to the paper.

The strength is the one that the paper recommends to start from, 0.5, and the score is of the last
epoch. `configs/isda/quick.py:smoke` takes the same way with the embedded digits in a minute.
"""

from ml_collections import ConfigDict

from configs.isda import common

FORMS = tuple(f"{name}{form}" for name in common.DATASETS for form in ("", "_constant", "_dropout"))
IMAGES = {"cifar10": 50, "cifar100": 10}
METHODS = {
    "": {
        "baseline": "cross_entropy",
        "ISDA": common.ISDA,
        "ISDA, diagonal": "isda(strength=0.5, covariance='diagonal')",
        "ISDA, shared": "isda(strength=0.5, covariance='shared')",
        "ISDA, identity": "isda(strength=0.5, covariance='identity')",
        "focal": common.FOCAL,
        "center": common.CENTER,
    },
    "constant": {"ISDA, constant strength": common.ISDA},
    "dropout": {"dropout": "cross_entropy", "ISDA + dropout": common.ISDA},
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form, by default "cifar10"; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *FORMS)
    dataset, _, form = arg.partition("_") if arg in FORMS else ("cifar10", "", "")
    config = common.start(common.RESNET)
    config.dataset = f"{dataset}_jpeg"
    config.model = "resnet8(dropout=0.3)" if form == "dropout" else "resnet8"
    config.image_size = 16
    config.train_sizes = (IMAGES[dataset],)
    config.seeds = config.runs_at_once = 3
    config.epochs = 150
    config.batch_size = 50
    config.schedule = "cosine"
    config.evaluate_epochs = 0.0
    if arg == "smoke":
        common.shrink(config)
        config.image_size = 0
    common.fill_in(config, METHODS[form])
    if form == "constant":
        config.growing = ConfigDict()
    return config
