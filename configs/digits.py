"""The thesis's seven regularizers and the baseline on scikit-learn's handwritten digits.

    python -m experiments.classify --config=configs/digits.py --workdir=runs/digits

Takes about four minutes on two CPU cores and needs no download: the 1,797 real images come with
scikit-learn. `configs/digits.py:smoke` takes the same way on few steps, in a minute or two, nearly
all of which is compilation. No paper has these numbers; the methods are those of "Study of Noise
Injection and Gradient Regularization Toward Better Generalization" (Thumwanit, 2020), with its
learning rate.
"""

from ml_collections import ConfigDict

from configs import common

# One random probe a step (probes=1) stands for the exact norms of the thesis: unbiased, and several
# times cheaper with ten classes.
LOSSES = {
    "db": "cross_entropy | double_backprop(weight={strength})",
    "jac": "cross_entropy | jacobian(weight={strength}, probes=1)",
    "fob": "cross_entropy | frobenius(weight={strength}, probes=1)",
    "NI": "cross_entropy | noise_injection(sigma={strength})",
    "baseline": "cross_entropy",
    "hsfob": "cross_entropy | hessian_frobenius(weight={strength}, probes=1)",
    "hsfob-db1": (
        "cross_entropy | hessian_frobenius(weight={strength}, probes=1)"
        " | double_backprop(weight={strength})"
    ),
    "hsfob-db2": (
        "cross_entropy | hessian_frobenius(weight={strength}, power=2, probes=2)"
        " | double_backprop(weight={strength})"
    ),
}

STRENGTHS = {
    "db": (0.01, 0.1, 1.0),
    "jac": (0.1, 1.0, 10.0),
    "fob": (0.001, 0.01, 0.1),
    "NI": (0.03, 0.1, 0.3),
    "hsfob": (0.01, 0.1, 1.0),
    "hsfob-db1": (0.01, 0.1, 1.0),
    "hsfob-db2": (0.01, 0.1, 1.0),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it.

    Raises:
      ValueError: if `arg` is neither "" nor "smoke".
    """
    common.check(arg)
    smoke = arg == "smoke"
    config = common.base()
    config.train_sizes = (5, 10) if smoke else (5, 10, 20)
    config.seeds = 2 if smoke else 5
    config.epochs = 2 if smoke else 30
    config.batch_size = 25
    config.validation_per_class = 10 if smoke else 50
    config.losses = ConfigDict(LOSSES, sort_keys=False)
    strengths = {method: grid[:2] if smoke else grid for method, grid in STRENGTHS.items()}
    config.strengths = ConfigDict(strengths, sort_keys=False)
    return config
