"""Table 2 of the Noisy Feature Mixup paper: eight schemes on CIFAR-100, under noise at test time.

    python -m experiments.classify --config=configs/nfm/table2.py --workdir=runs/nfm_table2

"Noisy Feature Mixup" (Lim et al., 2022): PreActResNet-18 of twice the width ("Wide-ResNet-18"), 200
epochs, 5 seeds. Expected (ROWS, in percent): 76.9 clean and 23.5 under white noise of 0.3 for the
baseline, 80.9 and 55.3 for Noisy Feature Mixup. It needs TFDS's "cifar100" in array_record format
and accelerators; `configs/nfm/table2.py:smoke` takes the same way with the embedded digits and a
small network, in two minutes.

The row "PuzzleMix (1200 epochs)", 80.3 53.0 19.1 6.2 69.3 51.9 15.7, is another training: leave the
other losses out, and --config.epochs=1200 with the schedule six times as long.
"""

from ml_collections import ConfigDict

from configs.nfm import common

# Clean; white noise of 0.1, 0.2, 0.3; salt and pepper of 0.02, 0.04, 0.1.
ROWS = {
    "baseline": (76.9, 64.6, 42.0, 23.5, 58.1, 39.8, 15.1),
    "noise": (76.1, 75.2, 60.5, 37.6, 64.9, 51.3, 23.0),
    "mixup": (80.3, 72.5, 54.0, 33.4, 62.5, 43.8, 16.2),
    "CutMix": (77.8, 58.3, 28.1, 13.8, 70.3, 58.0, 24.8),
    "PuzzleMix": (78.6, 66.2, 41.1, 22.6, 69.4, 56.3, 23.3),
    "manifold mixup": (79.7, 70.5, 45.0, 23.8, 62.1, 42.8, 14.8),
    "noisy mixup": (78.9, 78.6, 66.6, 46.7, 66.6, 53.4, 25.9),
    "NFM": (80.9, 80.1, 72.1, 55.3, 72.8, 62.1, 34.4),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes two minutes.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg)
    config = common.cifar(arg, "cifar100", "wide_resnet18", list(ROWS))
    config.perturbations = ConfigDict(common.NOISES, sort_keys=False)
    common.publish(config, "Lim et al., Table 2", ROWS, seeds=5)
    config.published_for = ("cifar100", "wide_resnet18")
    return config
