"""The SIGN paper's skin lesions: is it a melanoma?

    python -m experiments.classify --config=configs/sign/isic.py --workdir=runs/sign_isic/baseline

"Signed Input Regularization" (Taghanaki et al., 2019), 3.1: ISIC 2017, 2,000 images of which 374
are melanomas; Inception-ResNet-v2, batches of 32, 100 epochs, no augmentation; areas under the ROC
curve on 150 validation and 600 test images (AUC), 0.7633 and 0.7611, with SIGN (`:sign`,
`:sign_equal_updates`) 0.8131 and 0.7787. The columns have ours on the validation images, beside its
standard error over images by DeLong's formula, which with 30 melanomas is about as much as
what SIGN gains. Always saying "others" is right on 80.0 % of them. It needs a prepared
"isic2017_256_jpeg", whose test images are not public with it, and an accelerator.

The image size is not told: the network's own is 299 (`--config.image_size=299`); here it is 75, the
least that it takes. `:quick`, `:quick_sign` and `:quick_sign_equal_updates` are what two CPU cores
train, 64 pixels and a small residual network (the README of configs has its numbers); `:smoke`
takes the same way with the embedded digits in a minute.
"""

from ml_collections import ConfigDict

from configs.sign import common

# Areas under the ROC curve on validation and test images.
AUC = {"baseline": (0.7633, 0.7611), "SIGN": (0.8131, 0.7787)}
IMAGES = {"train": 2000, "melanoma": 374, "validation": 150, "test": 600}
CELLS = ("", "quick")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "quick" is for two CPU cores, "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    cell, form = common.form(arg, CELLS)
    config = common.start("inception_resnet_v2")
    config.dataset, config.positive_class = "isic2017_256_jpeg", "melanoma"
    config.image_size, config.resize = 75, "whole"
    config.batch_size = 32
    config.columns = ("accuracy", "auc", "auc_error")
    if cell == "quick":
        config.model, config.image_size, config.epochs = "resnet8", 64, 30
        config.runs_at_once = 3
    name = "SIGN" if form else "baseline"
    copies = f"runs/sign_isic_copies/{cell or 'full'}"
    common.fill_in(config, {name: "cross_entropy"}, form, copies)
    if arg == "smoke":
        common.shrink(config)
        config.positive_class, config.image_size = "7", 0
    return config
