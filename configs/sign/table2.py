"""Table 2 of the SIGN paper: aleatoric uncertainty on CIFAR-10, and what is right but not sure.

    python -m experiments.classify --config=configs/sign/table2.py --workdir=runs/sign2/mobilenet

"Signed Input Regularization" (Taghanaki et al., 2019): MobileNetV2 with a second head, trained by
eqs. 10 and 11, with classical augmentation and mixup; `:sign` is SIGN, on the copies of Table 1,
and `:sign_equal_updates` for as many steps. Expected accuracies are 82.34, 82.60 and 85.91 %; of
the test images that are right at a probability of a half or less ROWS has by class the mean
probability, the number and the mean uncertainty: 212, 363 and 26 images in all. The least
probabilities of a right image are 0.26, a little above 0.1, and 0.33 (LEAST). It needs TFDS's
"cifar10" in array_record format and accelerators; `:smoke` takes the same way with the embedded
digits in a minute.

The paper does not tell the number of samples (here 10 in training, 100 in evaluation), how the
network says its deviations (the logarithms of variances) and what the uncertainty is. Its values
are above ln 10, so that it is no entropy: here the mean variance of the logits over the classes, of
which only the order is comparable.
"""

from ml_collections import ConfigDict

from configs.sign import common

# By class and over all: accuracy, then of the images at p <= 0.5 mean p, number, mean uncertainty.
ROWS = {
    "classical": (
        (0.851, 0.930, 0.716, 0.721, 0.842, 0.631, 0.934, 0.864, 0.816, 0.929, 0.8234),
        (
            *(0.4325, 0.4081, 0.4370, 0.4414, 0.4346, 0.4449, 0.4402, 0.4435, 0.4244, 0.4102),
            0.4370,
        ),
        (17, 6, 31, 40, 30, 41, 9, 19, 12, 7, 212),
        (
            *(6.5198, 5.6784, 7.1620, 7.3614, 7.3126, 7.5829, 7.0295, 7.5014, 5.8672, 6.1368),
            7.1265,
        ),
    ),
    "mixup": (
        (0.866, 0.900, 0.707, 0.625, 0.819, 0.689, 0.913, 0.912, 0.910, 0.919, 0.8260),
        (
            *(0.3326, 0.4394, 0.4136, 0.4110, 0.4348, 0.4175, 0.4296, 0.4053, 0.4314, 0.4376),
            0.4123,
        ),
        (30, 15, 46, 93, 50, 59, 25, 27, 12, 6, 363),
        (
            *(3.4691, 4.5749, 4.2924, 4.6358, 4.3798, 4.6574, 4.3065, 4.5253, 4.6718, 4.4918),
            4.4295,
        ),
    ),
    "SIGN": (
        (0.864, 0.949, 0.807, 0.725, 0.849, 0.764, 0.895, 0.918, 0.926, 0.894, 0.8591),
        (
            *(0.4292, 0.4571, 0.4468, 0.4199, 0.4275, 0.4576, 0.4535, 0.4574, 0.4984, 0.4322),
            0.4428,
        ),
        (2, 1, 4, 6, 2, 3, 3, 3, 1, 1, 26),
        (
            *(6.4461, 8.4259, 6.1156, 5.9603, 5.7440, 6.7875, 6.4557, 6.8555, 8.9375, 8.4732),
            6.5668,
        ),
    ),
}
LEAST = {"classical": 0.26, "mixup": 0.1, "SIGN": 0.33}
BASE = "aleatoric(samples=10)"


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    _, form = common.form(arg, ("",))
    config = common.start("two_headed(model='mobilenet_v2', outputs=10)")
    config.uncertainty = "aleatoric(samples=100)"
    common.measure_unsure(config)
    losses = {"SIGN": BASE} if form else common.methods(BASE)
    common.fill_in(config, losses, form, "runs/sign1_copies/mobilenet")
    common.publish(config, "Table 2", {name: rows[0][-1] for name, rows in ROWS.items()})
    if arg == "smoke":
        common.shrink(config)
        config.model = "two_headed(model='small_cnn', outputs=10)"
    return config
