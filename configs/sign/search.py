"""A policy of augmentation found by search, as deepaugment's of the SIGN paper, on real digits.

    python -m experiments.search --config=configs/sign/search.py --workdir=runs/search

Five pairs of operations with magnitudes, 20 dimensions, by validation accuracy: 20 training images
a class, 50 others that are held out, 3 seeds, 64 trials of which 8 at a time are trained in one
program. It takes a minute and a half on one CPU core; `configs/sign/search.py:smoke` is smaller.
What it found is compared with no augmentation, with 10 seeds, by

    python -m experiments.classify --config=configs/sign/search.py:found --workdir=runs/found

`configs/sign/search.py:cifar10` is the form of deepaugment's own search ("Signed Input
Regularization", Asgari Taghanaki et al., 2019, 3.1): the BasicCNN with its dropout, 200 images a
class, batches of 64, 50 epochs, 300 trials. There each trial trains on 2,000 images and five copies
of them, made once; here every image draws anew in every epoch, and one in six stays as it is.
Validation images were redrawn there out of training and test images; here they are training images,
and always the same.
"""

from ml_collections import ConfigDict

from configs import common

# The best of the search above.
FOUND = (
    "policy(sub=(('sharpen', 1.0, 'coarse_dropout', 0.73),"
    " ('sharpen', 0.49, 'coarse_dropout', 0.2), ('gamma', 0.01, 'dropout', 0.22),"
    " ('translate_x', 0.56, 'coarse_dropout', 0.29), ('crop', 0.78, 'sharpen', 0.85)),"
    " rate=0.8333)"
)


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" shrinks it, "cifar10" and "found" are other ones.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "cifar10", "found")
    config = common.base()
    config.train_sizes, config.validation_per_class = (20,), 50
    config.batch_size, config.epochs, config.seeds = 25, 60, 3
    config.runs_at_once = 24
    config.losses = ConfigDict({"policy": "cross_entropy | policy(sub={sub}, rate=0.8333)"})
    config.search = ConfigDict(
        {"spaces": {"sub": "policy(subs=5)"}, "trials": 64, "sampler": "tpe", "seed": 0}
    )
    if arg == "smoke":
        config.train_sizes, config.validation_per_class = (5,), 10
        config.epochs, config.seeds, config.runs_at_once = 2, 1, 2
        config.search.trials = 4
    elif arg == "cifar10":
        config.dataset, config.model = "cifar10_jpeg", "basic_cnn(dropout=(0.6, 0.6, 0.5))"
        config.train_sizes, config.validation_per_class = (200,), 100
        config.batch_size, config.epochs = 64, 50
        config.optimizer, config.learning_rate = "rmsprop", 0.001
        config.search.trials = 300
    elif arg == "found":
        del config.search
        config.seeds, config.runs_at_once = 10, 10
        config.losses = ConfigDict(
            {"no augmentation": "cross_entropy", "found policy": f"cross_entropy | {FOUND}"},
            sort_keys=False,
        )
    return config
