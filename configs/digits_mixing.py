"""Mixing, Noisy Feature Mixup and ISDA on scikit-learn's handwritten digits.

    python -m experiments.classify --config=configs/digits_mixing.py --workdir=runs/digits_mixing

Takes about five minutes on two CPU cores and needs no download: the 1,797 real images come with
scikit-learn. `configs/digits_mixing.py:smoke` takes the same way on few steps, nearly all of whose
time is compilation. No paper has these numbers; the noise levels of NFM are those of "Noisy Feature
Mixup" (Lim et al., 2022) on CIFAR, whose alpha is 1; all else, ISDA's strength too, which the paper
lets grow, is as in `configs/digits.py`.
"""

from ml_collections import ConfigDict

from configs import digits

LAYERS = "layers=('input', 'conv1', 'conv2')"
LOSSES = {
    "mixup": "cross_entropy | mixup(alpha={strength})",
    "CutMix": "cross_entropy | cutmix(alpha={strength})",
    "manifold mixup": f"cross_entropy | manifold_mixup(alpha={{strength}}, {LAYERS})",
    "noisy mixup": "cross_entropy | noisy_mixup(alpha={strength}, add=0.2, multiply=0.1)",
    "NFM": (
        f"cross_entropy | noisy_feature_mixup(alpha={{strength}}, add=0.4, multiply=0.2, {LAYERS})"
    ),
    "baseline": "cross_entropy",
    "ISDA": "isda(strength={strength})",
    "ISDA, diagonal": "isda(strength={strength}, covariance='diagonal')",
}

STRENGTHS = {method: (0.1, 0.3, 1.0) for method in LOSSES if method != "baseline"}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it.

    Raises:
      ValueError: if `arg` is neither "" nor "smoke".
    """
    config = digits.get_config(arg)
    chosen = 2 if arg == "smoke" else 3
    config.losses = ConfigDict(LOSSES, sort_keys=False)
    strengths = {method: grid[:chosen] for method, grid in STRENGTHS.items()}
    config.strengths = ConfigDict(strengths, sort_keys=False)
    return config
