"""Table 3 of the SIGN paper: Table 2's networks on the images of Tiny ImageNet.

    python -m experiments.classify --config=configs/sign/table3.py --workdir=runs/sign2/mobilenet

"Signed Input Regularization" (Taghanaki et al., 2019): nothing is trained anew where Table 2's
command has trained in the work folder; `:sign` and `:sign_equal_updates` are the others, as there.
Expected are 52.10 (classical), 47.59 (mixup) and 54.90 % (SIGN), micro averages over 643 images;
ROWS has the numbers by class. Besides TFDS's "cifar10" it needs the validation images of Tiny
ImageNet as a prepared data set "tiny_imagenet_subset" whose classes have WordNet's names, of which
`common.TINY_IMAGENET` takes those of the paper's counts, without grey images: 49, 146, 50, 298 and
100. They are brought from 64 to 32 pixels, and the answer is the likeliest of all ten classes.
`:smoke` takes the same way with the embedded digits in a minute.
"""

from ml_collections import ConfigDict

from configs.sign import common, table2

CLASSES = ("automobile", "bird", "cat", "dog", "frog")
COUNTS = (49, 146, 50, 298, 100)
# As in Table 2; None where no image is at p <= 0.5.
ROWS = {
    "classical": (
        (0.8163, 0.5479, 0.6800, 0.3289, 0.8300, 0.5210),
        (0.4423, 0.4225, 0.4438, 0.4135, 0.4701, 0.4240),
        (1, 12, 2, 17, 3, 35),
        (5.9622, 6.0362, 8.0968, 7.0100, 7.4542, 6.7464),
    ),
    "mixup": (
        (0.7551, 0.4726, 0.6800, 0.2919, 0.7900, 0.4759),
        (0.4759, 0.4314, 0.4133, 0.4250, 0.3867, 0.4256),
        (3, 9, 6, 20, 3, 41),
        (4.8710, 4.5847, 4.4742, 4.8388, 3.8331, 4.6584),
    ),
    "SIGN": (
        (0.9184, 0.3973, 0.7200, 0.4497, 0.8000, 0.5490),
        (0.3854, 0.3125, None, 0.4611, None, 0.4162),
        (1, 1, 0, 3, 0, 5),
        (4.8829, 4.1209, None, 6.3664, None, 5.6206),
    ),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    config = table2.get_config("" if arg == "smoke" else arg)
    config.perturbations = ConfigDict({common.OTHER: common.OUT_OF_DISTRIBUTION})
    clean = {name: rows[0][-1] for name, rows in table2.ROWS.items()}
    found = {common.OTHER: {name: rows[0][-1] for name, rows in ROWS.items()}}
    common.publish(config, "Tables 2 and 3", clean, found)
    if arg == "smoke":
        common.shrink(config)
        config.model = "two_headed(model='small_cnn', outputs=10)"
    return config
