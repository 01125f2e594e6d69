"""CamVid: PSPNet and DeepLab-v3 without and with ISDA, small enough for two CPU cores.

    python -m experiments.segment --config=configs/camvid.py:quick --workdir=runs/pspnet
    python -m experiments.segment --config=configs/camvid.py:quick_deeplab --workdir=runs/deeplab

trains each network twice, by the protocol of ISDA's section 6.4 as far as it fits: SGD whose rate
falls by a power of 0.9, an auxiliary head of weight 0.4, ISDA of strength 7.5 that grows linearly,
with diagonal covariances. The networks have a ResNet-18 of a quarter of the width, the images are
TFDS's "camvid_small": 240 x 180 pixels, 11 classes, 367 images to train on and 233 to test, of
which the validation clip is none. Each run takes about seven minutes of one core. `:quick_fcn` is a
network without context, to compare with, and `:fcn`, `:deeplab` and no argument the same for
accelerators: full width, crops of the same size and 480 epochs, which have not been trained.
`:smoke` takes the same way in two minutes, nearly all of which is compilation. No paper has these
numbers; ours are in configs/README.md.
"""

from ml_collections import ConfigDict

from configs import common

HEADS = {"": "pspnet", "deeplab": "deeplab_v3", "fcn": "fcn"}
FORMS = ("deeplab", "fcn", "quick", "quick_deeplab", "quick_fcn")
AUGMENTED = " | random_flip | scaled_crop(size=(129, 161), low=0.75, high=1.5)"
LOSSES = {
    "baseline": "cross_entropy(auxiliary=0.4)",
    "ISDA": "isda(strength=7.5, covariance='diagonal', auxiliary=0.4, resizing='align_corners')",
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form, by default of PSPNet in full width; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *FORMS)
    quick = arg.startswith("quick")
    head = HEADS.get(arg.removeprefix("quick").removeprefix("_"), "pspnet")
    config = common.base()
    config.dataset, config.label_key = "camvid_small", "segmentation_label"
    # Of its training images.
    config.mean, config.std = (0.411, 0.425, 0.432), (0.302, 0.306, 0.302)
    config.model = f"{head}(backbone='resnet18', width={16 if quick else 64})"
    config.seeds = 2
    config.epochs = 20 if quick else 480
    config.batch_size = 8
    config.runs_at_once = 1
    config.selection = "test"
    config.optimizer = "add_decayed_weights(weight_decay=5e-4) | sgd(momentum=0.9)"
    config.learning_rate = 0.05
    config.schedule = "polynomial(power=0.9)"
    losses = {name: f"{loss}{AUGMENTED}" for name, loss in LOSSES.items()}
    config.losses = ConfigDict(losses, sort_keys=False)
    config.growing = ConfigDict({"isda": {"strength": "linear"}})
    if head == "fcn":
        del config.losses["ISDA"]
        config.growing = ConfigDict()
    if arg == "smoke":
        config.model = "pspnet(backbone='resnet18', width=4)"
        config.image_size = 48
        config.train_sizes, config.seeds, config.epochs = (16,), 1, 2
    return config
