"""Semi-supervised learning on scikit-learn's handwritten digits: 1, 2 and 5 labels a class.

    python -m experiments.classify --config=configs/digits_semi_supervised.py --workdir=runs/few

Four methods with and without ISDA, and both without unlabelled images, 10 seeds each. Every step
takes all labelled images, and 50 of all training images without their labels. Views of an image
differ by noise and a shift by one pixel. Weights and VAT's radius are those, of three each,
that did best on 30 held-out images a class, with 2 labels a class and 5 seeds;
ISDA's numbers are those that its paper starts from. `configs/digits_semi_supervised.py:smoke` takes
the same way on few steps. No paper has these numbers.
"""

from ml_collections import ConfigDict

from configs import common

METHODS = {
    "baseline": "",
    "Pi-model": " | pi_model(weight=30.0)",
    "temporal ensembling": " | temporal_ensembling(weight=30.0, images=1797)",
    "mean teacher": " | mean_teacher(weight=30.0, decay=0.95)",
    "VAT": " | vat(weight=1.0, epsilon=1.5)",
}
VIEWS = " | noise_injection(sigma=0.1) | random_crop(padding=1, fill=(0.0,))"
ISDA = "isda(strength=0.5, covariance='shared')"


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it.

    Raises:
      ValueError: if `arg` is neither "" nor "smoke".
    """
    common.check(arg)
    smoke = arg == "smoke"
    config = common.base()
    config.train_sizes = (1, 2) if smoke else (1, 2, 5)
    config.model = "mlp(widths=(256, 128))"
    config.seeds = 2 if smoke else 10
    config.epochs = 2 if smoke else 300
    config.batch_size = 50
    config.unlabeled_batch_size = 50
    config.unlabeled_includes_labeled = True
    config.selection = "test"
    config.evaluate_teacher = True
    losses = {}
    for name, term in METHODS.items():
        losses[name] = f"cross_entropy{term}{VIEWS}"
        losses[f"{name} + ISDA"] = common.with_isda(term, ISDA, 0.5) + VIEWS
    config.losses = ConfigDict(losses, sort_keys=False)
    config.growing = ConfigDict(
        {
            "isda": {"strength": "linear"},
            "pi_model": {"weight": "sigmoid(epochs=80)"},
            "temporal_ensembling": {"weight": "sigmoid(epochs=80)"},
            "mean_teacher": {"weight": "sigmoid(epochs=80)"},
        },
        sort_keys=False,
    )
    return config
