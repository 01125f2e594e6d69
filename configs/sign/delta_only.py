r"""Classification by SIGN's moves alone, section 3.1 of the paper: 46.2 % on CIFAR-10.

    python -m experiments.classify --config=configs/sign/delta_only.py:source --workdir=runs/source
    python -m experiments.sign runs/source --delta --output=runs/moves
    python -m experiments.classify --config=configs/sign/delta_only.py --workdir=runs/delta_only

The first trains MobileNetV2 on images, the second writes, for every training and test image, the
gradient of the sum of its features, divided by the training images' standard deviation, and the
third trains a new MobileNetV2 on these and tests it on those of the test images, which need no
labels. The paper says neither how many iterations a move has nor how it is scaled. Epochs and batch
size are those of its Table 1; the optimizer is not stated.

The same with a small network on 500 images a class of the lossy "cifar10_jpeg", on two CPU cores:

    python -m experiments.classify --config=configs/sign/delta_only.py:quick_source \
        --workdir=runs/quick_source
    python -m experiments.sign runs/quick_source --delta --output=runs/quick_moves
    python -m experiments.classify --config=configs/sign/delta_only.py:quick \
        --workdir=runs/quick_delta_only

`:smoke` trains the source on the embedded digits, in a minute.
"""

from ml_collections import ConfigDict

from configs import common

SOURCES = ("source", "quick_source")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of the moves, or of the network that makes them ("source").

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *SOURCES, "quick")
    quick, images = arg.startswith("quick"), arg in (*SOURCES, "smoke")
    config = common.base()
    moves = "npz:runs/quick_moves" if quick else "npz:runs/moves"
    config.dataset = ("cifar10_jpeg" if quick else "cifar10") if images else moves
    config.model = "small_cnn" if quick else "mobilenet_v2(bn_momentum=0.99)"
    config.train_sizes = (500,) if arg == "quick_source" else (0,)
    config.seeds = 3 if arg in ("", "quick") else 1
    config.epochs = 20 if quick else 100
    config.runs_at_once = config.seeds if quick else 1
    config.losses = ConfigDict(
        {"baseline": "cross_entropy | random_flip" if images else "cross_entropy"}
    )
    if arg == "smoke":
        common.shrink(config, "small_cnn")
    elif not images:
        config.published = ConfigDict({"baseline": {"0": (46.2, None)}})
        config.published_source = "Signed Input Regularization, section 3.1, on CIFAR-10"
        config.published_seeds = 1
        config.published_for = (moves, "mobilenet_v2(bn_momentum=0.99)")
    return config
