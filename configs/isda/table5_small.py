r"""Table 5's protocol of augmentation by generators, in small: against plain training and ISDA.

    python -m experiments.classify --config=configs/isda/table5_small.py --workdir=runs/table5/mnist

trains without and with ISDA on 50 images a class, and `:mnist_wgan`, `:mnist_cgan`, `:mnist_acgan`,
`:mnist_infogan`, each in a folder of its own, with a sixth of every batch of a generator's images,
8 of 48. `:cifar10` and so on are the same on the lossy "cifar10_jpeg" at half its height and width.
Three seeds; all stand beside each other on the page of

    python -m experiments.report runs/table5/mnist* --output=table5.html

A generator must have seen no other images than the classifier that it helps: that of a seed is
trained on the same 50 images a class, which go by the seed and the size, and its images are a
folder of their own. `configs/isda/table5_generators.py` trains them and says how their images are
written. What all that costs more than plain training is counted by

    python -m experiments.benchmark.whole_training runs/table5/mnist*

Table 5's generators saw all training images, as its classifiers did. An epoch is one of the real
images, 40 a batch with a generator and 48 without, so that generators' rows take 13 steps in place
of 11.

The strength of ISDA is the one that the paper recommends to start from, 0.5, on CIFAR-10, and 0.1
on MNIST; the score is of the last epoch. `configs/isda/table5_small.py:smoke` takes the same way in
a minute with the embedded digits, to which digits themselves are mixed in, so that it needs no
generator.
"""

from ml_collections import ConfigDict

from configs.isda import common, table5

DATASETS = {"mnist": "small_cnn", "cifar10": "resnet8"}
STORED = {"mnist": "mnist", "cifar10": "cifar10_jpeg"}
# The strength that the paper recommends to start from diverges in a network without BatchNorm.
ISDA = {"mnist": "isda(strength=0.1)", "cifar10": common.ISDA}
FORMS = tuple(f"{name}{form}" for name in DATASETS for form in ("", *table5.GENERATORS))


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form, by default "mnist"; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *FORMS)
    name, _, form = ("mnist_cgan" if arg == "smoke" else arg or "mnist").partition("_")
    config = common.start(common.RESNET)
    config.dataset, config.model = STORED[name], DATASETS[name]
    config.train_sizes = (50,)
    config.seeds = config.runs_at_once = 3
    config.epochs, config.batch_size = 75, 48
    config.schedule = "cosine"
    config.evaluate_epochs = 0.0
    if name == "mnist":
        config.mean, config.std = (0.1307,), (0.3081,)
        config.learning_rate = 0.02  # a network without BatchNorm
    else:
        config.image_size = 16
    if form:
        config.mixture = common.sixth(f"npz:runs/table5/samples/{name}_{form}_{{seed}}")
    if arg == "smoke":
        common.shrink(config)
        config.mixture = common.sixth("digits")
    methods = {"baseline": "cross_entropy", "ISDA": ISDA[name]}
    if form:
        methods = {table5.GENERATORS[f"_{form}"]: "cross_entropy"}
    common.fill_in(config, methods)
    if name == "mnist":  # a mirrored digit is none
        config.losses = ConfigDict(methods, sort_keys=False)
    return config
