"""ImageNet with ResNet-50, with and without ISDA: the first rows of Table 1 of the ISDA paper.

    python -m experiments.classify --config=configs/isda/imagenet.py --workdir=runs/isda_imagenet \
        --config.workers=16

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.1: 300 epochs,
batches of 512, rate 0.2 with a cosine, weight decay 1e-4, strength 7.5 with diagonal covariances.
Published top-1 errors are 23.0 and 21.9 %. It needs TFDS's "imagenet2012" in array_record format
and accelerators; `configs/isda/imagenet.py:smoke` takes the same way with the embedded digits, a
small network and two epochs, in a minute on two CPU cores.

The momentum is not Nesterov's, as in the authors' program; the paper names that for CIFAR.
BatchNorm and ISDA's statistics are over the whole batch; in the program each process has its own.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it to a minute.

    Raises:
      ValueError: if `arg` is neither "" nor "smoke".
    """
    if arg not in ("", "smoke"):
        raise ValueError(f"The config's argument is {arg!r}; it can be '' or 'smoke'.")
    config = common.base()
    config.dataset = "imagenet2012"
    config.data = "stream"
    config.workers = 8
    config.mean = (0.485, 0.456, 0.406)
    config.std = (0.229, 0.224, 0.225)
    config.model = "resnet50"
    config.dtype = "bfloat16"
    config.epochs = 300
    config.batch_size = 512
    # As in the authors' program, biases and BatchNorm decay too (mask='kernels' leaves them out).
    config.optimizer = "add_decayed_weights(weight_decay=1e-4) | sgd(momentum=0.9)"
    config.learning_rate = 0.2
    config.schedule = "cosine"
    config.growing = ConfigDict({"isda": {"strength": "linear"}})
    config.selection = "test"
    config.runs_at_once = 1
    config.evaluate_epochs = 1.0
    config.checkpoint_steps = 1000
    config.losses = ConfigDict(
        {
            "baseline": "cross_entropy",
            "ISDA": "isda(strength={strength}, covariance='diagonal')",
        },
        sort_keys=False,
    )
    config.strengths = ConfigDict({"ISDA": (7.5,)})
    # The paper has no standard deviations.
    published = {"baseline": {"0": (77.0, None)}, "ISDA": {"0": (78.1, None)}}
    config.published = ConfigDict(published, sort_keys=False)
    config.published_source = "Wang et al., Table 1, top-1"
    config.published_seeds = 1
    config.published_for = ("imagenet2012", "resnet50")
    if arg == "smoke":
        _shrink(config)
    return config


def _shrink(config: ConfigDict) -> None:
    config.dataset = "digits"
    config.image_size = 8
    config.workers = 0
    config.mean = config.std = ()
    config.model = "resnet20"
    config.epochs = 2
    config.batch_size = 64
    config.checkpoint_steps = 10
