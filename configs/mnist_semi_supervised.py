"""Semi-supervised learning on MNIST with 100 labels, ten a class.

    python -m experiments.classify --config=configs/mnist_semi_supervised.py --workdir=runs/mnist

The network and the 100 labels of "Virtual Adversarial Training" (Miyato et al., 2018), section 4:
its VAT reaches an error of 1.36 %, and its Table 2 has more to compare with. Every step takes all
100 labelled images, and 128 of the 60,000 without their labels. 1,000 other images were held out to
choose the numbers by, with `--config.validation_per_class=100`; they are trained on, unlabelled,
below. `configs/mnist_semi_supervised.py:smoke` takes the same way on few steps of digits.
"""

from ml_collections import ConfigDict

from configs import common

METHODS = {
    "baseline": "",
    "Pi-model": " | pi_model(weight=10.0) | noise_injection(sigma=0.3)",
    "mean teacher": " | mean_teacher(weight=10.0, decay=0.99) | noise_injection(sigma=0.3)",
    "VAT": " | vat(weight=1.0, epsilon=2.0)",
}
ISDA = "isda(strength=0.5, covariance='shared')"


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it.

    Raises:
      ValueError: if `arg` is neither "" nor "smoke".
    """
    common.check(arg)
    config = common.base()
    config.dataset = "mnist"
    config.model = "mlp"
    config.train_sizes = (10,)
    config.seeds = 3
    config.epochs = 4000
    config.batch_size = 100
    config.unlabeled_batch_size = 128
    config.unlabeled_includes_labeled = True
    config.learning_rate = 0.002
    config.schedule = "cosine"
    config.selection = "test"
    config.evaluate_teacher = True
    if arg == "smoke":
        common.shrink(config, "mlp(widths=(20, 10))")
        config.unlabeled_batch_size = 25
    losses = {}
    for name, term in METHODS.items():
        losses[name] = f"cross_entropy{term}"
        moved = "" if name == "baseline" else " | semantic_consistency(weight=0.5)"
        losses[f"{name} + ISDA"] = f"{ISDA}{moved}{term}"
    config.losses = ConfigDict(losses, sort_keys=False)
    config.growing = ConfigDict({"isda": {"strength": "linear"}}, sort_keys=False)
    return config
