"""Table 5 of the SIGN paper: Table 1's networks without some pixels, and under noise.

    python -m experiments.classify --config=configs/sign/table5.py --workdir=runs/sign1/mobilenet

"Signed Input Regularization" (Taghanaki et al., 2019): nothing is trained anew where Table 1's
command has trained in the work folder; the arguments are as there. Of each test image 50 pixels are
0, or noise of 10 grey levels is added to all, clipped: ROWS has the published accuracies and what
follows their ±. On 10,000 images an accuracy moves in steps of 1e-4, so that 4e-6 can be no
standard deviation: these are variances, over draws whose number is not told; here 10, and the table
shows both. It needs TFDS's "cifar10" in array_record format and accelerators; `:smoke` takes the
same way with the embedded digits in a minute.
"""

from ml_collections import ConfigDict

from configs.sign import common, table1

# Without 50 pixels and under noise: the accuracy and its variance over draws.
ROWS = {
    "mobilenet": {
        "classical": ((0.6672, 3e-4), (0.6552, 4e-5)),
        "mixup": ((0.5970, 2e-4), (0.6590, 9e-5)),
        "SIGN": ((0.6690, 3e-4), (0.7122, 3e-5)),
    },
    "basic_cnn": {
        "deepaugment": ((0.8361, 1e-5), (0.7875, 1e-5)),
        "deepaugment + SIGN": ((0.8479, 4e-6), (0.7980, 2e-5)),
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a cell, by default "mobilenet"; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    cell, _ = common.form(arg, tuple(ROWS))
    config = table1.get_config("" if arg == "smoke" else arg)
    config.perturbations = ConfigDict(common.DISTURBED, sort_keys=False)
    clean = {name: row[-1] for name, row in table1.ROWS[cell].items()}
    under = {
        name: {method: row[i][0] for method, row in ROWS[cell].items()}
        for i, name in enumerate(common.DISTURBED)
    }
    common.publish(config, "Tables 1 and 5", clean, under)
    if arg == "smoke":
        common.shrink(config)
    return config
