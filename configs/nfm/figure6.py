"""Figure 6 of the Noisy Feature Mixup paper: accuracy under the fifteen corruptions of CIFAR-10-C.

    python -m experiments.classify --config=configs/nfm/figure6.py --workdir=runs/nfm_table1

"Noisy Feature Mixup" (Lim et al., 2022): the networks of Table 1 at five severities. In the folder
of `configs/nfm/table1.py`, as here, those are taken that have been trained, and tested only. The
figure is not printed as numbers.

The corruptions are made here; `configs/nfm/figure6.py:stored` reads TFDS's "cifar10_corrupted" and
normalises it as the authors' program does, by another standard deviation than in training. `:quick`
and `:smoke` as in Table 1; they test on 1,000 and 100 of the test images.
"""

from ml_collections import ConfigDict

from configs.nfm import common, table1

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
STD = (0.2023, 0.1994, 0.201)


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "stored" reads the images, "quick" is for two CPU cores, "smoke" tiny.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "stored", "quick")
    config = table1.get_config("" if arg == "stored" else arg)
    size = {"smoke": 100, "quick": 1000}.get(arg, 0)
    kind, std = ("stored_corruption", f"std={STD}, ") if arg == "stored" else ("corruption", "")
    names = CORRUPTIONS[::5] if arg == "smoke" else CORRUPTIONS
    corruptions = {name: f"{kind}(name={name!r}, {std}examples={size})" for name in names}
    config.perturbations = ConfigDict(corruptions, sort_keys=False)
    config.published_robustness = ConfigDict()
    return config
