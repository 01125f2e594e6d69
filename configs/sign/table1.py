r"""Table 1 of the SIGN paper: augmentation, mixup and SIGN on CIFAR-10, by class.

    python -m experiments.classify --config=configs/sign/table1.py --workdir=runs/sign1/mobilenet

"Signed Input Regularization" (Taghanaki et al., 2019): MobileNetV2, classical augmentation and
mixup, whose published accuracies are 85.50 and 85.84 %. SIGN (86.37 %) trains on copies beside the
images, which the first network makes, and so in a comparison of its own:

    python -m experiments.sign runs/sign1/mobilenet --method=classical --seed=0 \
        --output=runs/sign1_copies/mobilenet0
    python -m experiments.classify --config=configs/sign/table1.py:mobilenet_sign \
        --workdir=runs/sign1/mobilenet_sign

the first of them for every seed, so that each run has the copies of its own seed's network,
`:mobilenet_sign_equal_updates` for as many steps as the others take. `:basic_cnn`,
`:basic_cnn_sign` and `:basic_cnn_sign_equal_updates` are BasicCNN, 200 epochs, with a learned
policy of augmentation, 86.48 and 86.91 %. ROWS has the accuracy of every class. They stand beside
each other on the page of `python -m experiments.report runs/sign1/*`. It needs TFDS's "cifar10" in
array_record format and accelerators. `:smoke` takes the same way with the embedded digits in a
minute.
"""

from ml_collections import ConfigDict

from configs.sign import common

# By class in the order of common.CLASSES, then their mean.
ROWS = {
    "mobilenet": {
        "classical": (
            *(0.834, 0.940, 0.850, 0.691, 0.858, 0.758, 0.914, 0.875, 0.909, 0.921),
            0.8550,
        ),
        "mixup": (
            *(0.870, 0.902, 0.861, 0.793, 0.810, 0.716, 0.886, 0.884, 0.935, 0.927),
            0.8584,
        ),
        "SIGN": (
            *(0.868, 0.931, 0.806, 0.717, 0.864, 0.763, 0.936, 0.875, 0.941, 0.936),
            0.8637,
        ),
    },
    "basic_cnn": {
        "deepaugment": (
            *(0.885, 0.930, 0.794, 0.733, 0.911, 0.746, 0.893, 0.915, 0.924, 0.917),
            0.8648,
        ),
        "deepaugment + SIGN": (
            *(0.866, 0.939, 0.819, 0.728, 0.867, 0.816, 0.920, 0.898, 0.919, 0.919),
            0.8691,
        ),
    },
}
MODELS = {"mobilenet": "mobilenet_v2", "basic_cnn": "basic_cnn"}


def losses(cell: str, form: str) -> dict[str, str]:
    """The methods of a cell in a form."""
    if cell == "basic_cnn":
        name = "deepaugment + SIGN" if form else "deepaugment"
        return {name: f"cross_entropy | {common.POLICY}"}
    return {"SIGN": "cross_entropy"} if form else common.methods()


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a cell, by default "mobilenet"; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    cell, form = common.form(arg, tuple(ROWS))
    config = common.start(MODELS[cell], epochs=200 if cell == "basic_cnn" else common.EPOCHS)
    common.fill_in(config, losses(cell, form), form, f"runs/sign1_copies/{cell}")
    means = {name: row[-1] for name, row in ROWS[cell].items()}
    common.publish(config, "Table 1", means)
    if arg == "smoke":
        common.shrink(config)
    return config
