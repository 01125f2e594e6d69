"""Table 4 of the SIGN paper: NASNetMobile on the copies that MobileNetV2 has made.

    python -m experiments.classify --config=configs/sign/table4.py --workdir=runs/sign4/classical

"Signed Input Regularization" (Taghanaki et al., 2019): NASNetMobile with classical augmentation,
80.85 %; `:sign` trains it from scratch on the images and Table 1's copies of them, 84.78 %, and
`:sign_equal_updates` for as many steps. ROWS has the accuracy of every class. It needs TFDS's
"cifar10" in array_record format and accelerators; `:smoke` takes the same way with the embedded
digits in a minute.
"""

from ml_collections import ConfigDict

from configs.sign import common

# By class in the order of common.CLASSES, then their mean.
ROWS = {
    "classical": (
        *(0.846, 0.873, 0.717, 0.620, 0.722, 0.741, 0.962, 0.804, 0.907, 0.893),
        0.8085,
    ),
    "transfer": (
        *(0.858, 0.927, 0.813, 0.672, 0.829, 0.740, 0.897, 0.898, 0.934, 0.910),
        0.8478,
    ),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    _, form = common.form(arg, ("",))
    config = common.start("nasnet_mobile")
    classical = {"classical": common.methods()["classical"]}
    losses = {"transfer": "cross_entropy"} if form else classical
    common.fill_in(config, losses, form, "runs/sign1_copies/mobilenet")
    common.publish(config, "Table 4", {name: row[-1] for name, row in ROWS.items()})
    if arg == "smoke":
        common.shrink(config)
    return config
