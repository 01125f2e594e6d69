"""Figure 5 of the SIGN paper: features of Table 1's MobileNetV2, by t-SNE.

    python -m experiments.classify --config=configs/sign/figure5.py --workdir=runs/sign1/mobilenet
    python -m experiments.gallery.feature_map runs/sign1/mobilenet --output=feature_map.png

"Signed Input Regularization" (Taghanaki et al., 2019): nothing is trained anew where Table 1's
command has trained in the work folder; `:sign` and `:sign_equal_updates` are SIGN. The second
command draws the test images' features, with `--trained` those of training images, and prints how
well t-SNE shows them and how many of their 10 nearest neighbours are of their class: the paper has
the picture only, and finds SIGN's classes more compact. It needs TFDS's "cifar10" in array_record
format and accelerators; `:smoke` takes the same way with the embedded digits in a minute.
"""

from ml_collections import ConfigDict

from configs.sign import common, table1


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    _, form = common.form(arg, ("",))
    return table1.get_config(arg if arg == "smoke" else "_".join(filter(None, ("mobilenet", form))))
