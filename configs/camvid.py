"""CamVid on two CPU cores: PSPNet and DeepLab-v3 on small backbones, plain and with ISDA."""

from ml_collections import ConfigDict

from configs import common

HEADS = {"pspnet": "pspnet", "deeplab": "deeplab_v3"}
AUGMENTED = " | random_flip"


def get_config(arg: str = "") -> ConfigDict:
    config = common.base()
    config.dataset = "camvid_small"
    config.label_key = "segmentation_label"
    config.model = "pspnet(backbone='resnet18', width=16)"
    config.mean = (0.41, 0.42, 0.43)
    config.std = (0.30, 0.30, 0.30)
    config.epochs = 30
    config.batch_size = 8
    config.runs_at_once = 1
    config.selection = "test"
    config.optimizer = "sgd(momentum=0.9)"
    config.learning_rate = 0.05
    config.losses = ConfigDict(
        {
            "baseline": "cross_entropy(auxiliary=0.4)" + AUGMENTED,
            "ISDA": "isda(strength=7.5, covariance='diagonal', auxiliary=0.4, resizing='align_corners')"
            + AUGMENTED,
        },
        sort_keys=False,
    )
    return config
