"""Table 6 of the ISDA paper: four semi-supervised methods with and without ISDA.

    python -m experiments.classify --config=configs/isda/table6.py --workdir=runs/isda_table6

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.3 and
Appendices B and C: CNN-13, 5 seeds, the strength, which grows linearly, chosen on a quarter of the
labelled images, and the mean over the last ten epochs. One command is one column, here CIFAR-10
with 4,000 labels, whose published errors are 12.36, 11.90, 10.73 and 11.10 %, with ISDA 11.35,
11.25, 9.96 and 9.72 %. The others are `configs/isda/table6.py:cifar10_1000`, `:cifar10_2000`,
`:cifar100_10000`, `:cifar100_20000` and `:svhn_500` (SVHN's number of labels is lost in the print
that we have; its mean teacher is that of the authors with 500); ERRORS has all numbers, in percent.
It needs TFDS's "cifar10", "cifar100" or "svhn_cropped" in array_record format and accelerators.

That is ISDA's recipe for all methods, and for plain training beside them: SGD for 400 epochs of all
images, 128 labelled images a step and 128 of all. In a config an epoch is one of the labelled
images, so that there are more of them, and the ten last ones are shorter; the rate is near 0 then.
The recipes of the methods' own papers stand behind a column's name and whose they are:

- `_laine_aila`: Pi-model and temporal ensembling; weight normalisation, noise on the input, Adam.
- `_mean_teacher`: mean teacher likewise, with its own whitening.
- `_vat`: VAT, without and with its entropy term, and with ISDA; 32 labelled images and 128 of all.

Where the programs mix labelled and other images in a batch of 100, here are 100 of each, whose
losses are means of their own: the same gradient on average but for the labelled share, a factor
that Adam does not see, and BatchNorm by stream. Adam's first decay stays 0.9, where they let it
fall to 0.5 with the rate; the teacher's is 0.999 throughout, also on SVHN. Weight normalisation
leaves no linear head, which ISDA needs. Not chosen, but 1, is eta_1, the weight of ISDA's term, for
which the paper looks at 0.5, 1 and 2; the last factor, eta_2, is that of the methods' own papers.

`:quick` is what two CPU cores can do: a narrow network without dropout, "cifar10_jpeg" in 16 x 16
with 4,000 labels, 3,200 steps, 2 seeds, an hour of two slow cores; the README of configs has the
table. Mean teacher's weight, 10, and VAT's epsilon (1, of images whose mean length is 22 when
whitened, where it is 8 of 55) did best on held-out images, of two and of three; the Pi-model and
temporal ensembling have the same weight, untried. `:smoke` takes the same way with the embedded
digits, in minutes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import common as configs
from configs.isda import common

# Data set and labels.
COLUMNS = (
    *("cifar10_1000", "cifar10_2000", "cifar10_4000"),
    *("cifar100_10000", "cifar100_20000", "svhn_500"),
)
# By method means and deviations of errors, by column as far as they go.
ERRORS: dict[str, tuple[common.Error, ...]] = {
    "Pi-model": ((28.74, 0.48), (17.57, 0.44), (12.36, 0.17), (38.06, 0.37), (30.80, 0.18)),
    "Pi-model + ISDA": ((23.99, 1.30), (14.90, 0.10), (11.35, 0.19), (36.93, 0.28), (30.03, 0.41)),
    "temporal ensembling": (
        *((25.15, 1.46), (15.78, 0.44), (11.90, 0.25)),
        *((41.56, 0.42), (35.35, 0.40)),
    ),
    "temporal ensembling + ISDA": (
        *((22.77, 0.63), (14.98, 0.73), (11.25, 0.31)),
        *((40.47, 0.24), (34.58, 0.27)),
    ),
    "mean teacher": (
        *((18.27, 0.53), (13.45, 0.30), (10.73, 0.14)),
        *((36.03, 0.37), (30.00, 0.59), (4.18, 0.27)),
    ),
    "mean teacher + ISDA": (
        *((17.11, 1.03), (12.35, 0.14), (9.96, 0.33)),
        *((34.60, 0.41), (29.37, 0.30), (4.06, 0.11)),
    ),
    "VAT": (
        *((18.12, 0.82), (13.93, 0.33), (11.10, 0.24)),
        *((40.12, 0.12), (34.19, 0.69), (5.10, 0.08)),
    ),
    "VAT + ISDA": (
        *((14.38, 0.18), (11.52, 0.05), (9.72, 0.14)),
        *((36.04, 0.47), (30.97, 0.42), (4.86, 0.18)),
    ),
}


class Recipe(NamedTuple):
    """How a column is trained, on CIFAR or on SVHN.

    Attributes:
      methods: what is trained, as far as the column has it.
      labeled: labelled images a step.
      unlabeled: images without their labels a step.
      steps: of a training.
      optimizer: what descends.
      rate: the largest learning rate.
      schedule: its course, with epochs in braces.
      hold: the share of a training before "{hold}".
      up: the share in which weights, and the rate as "{up}", rise.
      down: the share in which the rate falls as "{down}".
      idle: the share at first in which weights are 0.
      model: the network.
      whiten: what the images are whitened by.
    """

    methods: tuple[str, ...]
    labeled: int
    unlabeled: int
    steps: int
    optimizer: str
    rate: float
    schedule: str = "cosine"
    hold: float = 0.0
    up: float = 80 / 300
    down: float = 50 / 300
    idle: float = 0.0
    model: str = "cnn13"
    whiten: str = "zca(epsilon=1e-5)"


SGD = "add_decayed_weights(weight_decay=1e-4) | sgd(momentum=0.9, nesterov=True)"
# Weights are 0 in the first epoch of 400, where the ramp itself would begin at exp(-5) of them.
ISDA = Recipe(
    *(("baseline", "baseline + ISDA", *ERRORS), 128, 128, 400 * 390, SGD, 0.1), idle=1 / 400
)
LAINE_AILA = Recipe(
    ("baseline", "Pi-model", "temporal ensembling"),
    *(100, 100, 150_000, "adam", 0.003, "ramps(up={up:g}, down={down:g})"),
    idle=1 / 300,
    model="cnn13(weight_norm=True, noise=0.15)",
)
MEAN_TEACHER = LAINE_AILA._replace(
    methods=("baseline", "mean teacher"), idle=0.0, whiten="gcn | zca(epsilon=0.1)"
)
VAT = Recipe(
    ("baseline", "VAT", "VAT + entropy", "VAT + ISDA"),
    *(32, 128, 200_000, "adam", 0.001, "polynomial(power=1, start={hold:g})", 460 / 500),
)
# By the ends of columns' names.
CIFAR = {"": ISDA, "_laine_aila": LAINE_AILA, "_mean_teacher": MEAN_TEACHER, "_vat": VAT}
# Of 572 whole batches in an epoch. Where nothing whitens, pixels are between -0.5 and 0.5.
SVHN = {
    "": ISDA._replace(
        methods=("baseline", "baseline + ISDA", *list(ERRORS)[4:]), steps=400 * 572, whiten=""
    ),
    "_mean_teacher": MEAN_TEACHER._replace(
        steps=180_000, up=40 / 180, down=25 / 180, whiten="standardise"
    ),
    "_vat": VAT._replace(steps=48_000, hold=80 / 120, whiten=""),
}
# For images of 16 x 16 and a few thousand steps.
QUICK_TERMS = {
    "baseline": "",
    "Pi-model": " | pi_model(weight=10.0)",
    "temporal ensembling": " | temporal_ensembling(weight=10.0, images=50000)",
    "mean teacher": " | mean_teacher(weight=10.0, decay=0.99)",
    "VAT": " | vat(weight=1.0, epsilon=1.0)",
}
CELLS = {
    f"{column}{suffix}": (column, recipe)
    for column in COLUMNS
    for suffix, recipe in (SVHN if "svhn" in column else CIFAR).items()
}


def terms(dataset: str) -> dict[str, str]:
    """The methods' penalties by name, for a labelled loss that is a mean over labelled images."""
    ensemble = 100.0 if dataset == "cifar100" else 30.0
    # A length of whitened CIFAR, or of SVHN's pixels.
    vat = f" | vat(weight=1.0, epsilon={3.5 if dataset == 'svhn_cropped' else 8.0})"
    return {
        "baseline": "",
        "Pi-model": " | pi_model(weight=100.0)",
        "temporal ensembling": f" | temporal_ensembling(weight={ensemble}, images=50000)",
        "mean teacher": " | mean_teacher(weight=100.0)",
        "VAT": vat,
        "VAT + entropy": f"{vat} | entropy(weight=1.0)",
    }


def start(column: str, recipe: Recipe) -> ConfigDict:
    """A config without losses, which `fill_in` adds: all labels are trained on, once."""
    dataset, _, labels = column.partition("_")
    config = configs.base()
    config.dataset = "svhn_cropped" if dataset == "svhn" else dataset
    config.whiten, config.model = recipe.whiten, recipe.model
    if not recipe.whiten:
        config.mean, config.std = (0.5,), (1.0,)
    config.train_sizes = (int(labels) // (100 if dataset == "cifar100" else 10),)
    config.batch_size, config.unlabeled_batch_size = recipe.labeled, recipe.unlabeled
    config.unlabeled_includes_labeled = config.evaluate_teacher = True
    config.epochs = round(recipe.steps / -(-int(labels) // recipe.labeled))
    config.optimizer, config.learning_rate = recipe.optimizer, recipe.rate
    course = {name: getattr(recipe, name) * config.epochs for name in ("up", "down", "hold")}
    config.schedule = recipe.schedule.format(**course)
    config.seeds, config.score_epochs, config.runs_at_once = 5, 10, 1
    config.evaluate_epochs = config.epochs / 40
    config.selection = "test"
    return config


def shrink(config: ConfigDict) -> None:
    """Changes a config to the embedded digits and a small network."""
    configs.shrink(config, "small_cnn")
    config.whiten, config.unlabeled_batch_size = "zca(epsilon=0.1)", 25
    config.score_epochs = 1


def fill_in(
    config: ConfigDict,
    methods: Sequence[str],
    strengths: Sequence[float],
    recipe: Recipe = ISDA,
    known: dict[str, str] | None = None,
) -> None:
    """Adds the methods, of which those with ISDA are its eq. (19), and what grows in them.

    Args:
      config: to be changed, when its data and its epochs are known.
      methods: of `terms`, and those with " + ISDA" behind.
      strengths: ISDA's.
      recipe: says how weights grow.
      known: the methods' penalties; None for `terms`.
    """
    known = known or terms(config.dataset)
    flip = "random_flip | " if "cifar" in config.dataset else ""
    margin = 1 if config.image_size == 16 or config.dataset == "digits" else 2
    losses = {}
    for method in methods:
        name = method.removesuffix(" + ISDA")
        loss = f"cross_entropy{known[name]}"
        if name != method:
            loss = configs.with_isda(known[name], "isda(strength={strength})", 1.0)
        losses[method] = f"{loss} | {flip}random_crop(padding={margin}, mode='reflect')"
    config.losses = ConfigDict(losses, sort_keys=False)
    with_isda = {name: tuple(strengths) for name, loss in losses.items() if "isda" in loss}
    config.strengths = ConfigDict(with_isda, sort_keys=False)
    grown = {"isda": {"strength": "linear"}} if with_isda else {}
    idle = f", idle={config.epochs * recipe.idle:g}" if recipe.idle else ""
    ramp = {"weight": f"sigmoid(epochs={config.epochs * recipe.up:g}{idle})"}
    for stage in ("pi_model", "temporal_ensembling", "mean_teacher"):
        if any(f"{stage}(" in loss for loss in losses.values()):
            grown[stage] = dict(ramp)
    config.growing = ConfigDict(grown, sort_keys=False)


def publish(config: ConfigDict, column: str) -> None:
    """Sets the published numbers of a column, as accuracies of its methods."""
    at = COLUMNS.index(column)
    rows = {name: row[at] for name, row in ERRORS.items() if at < len(row)}
    mine = {name: row for name, row in rows.items() if name in config.losses}
    common.publish(config, "Table 6", mine, config.train_sizes[0])


def quick(config: ConfigDict) -> None:
    """Changes the column to what two CPU cores can train."""
    config.dataset, config.image_size = "cifar10_jpeg", 16
    config.model = "cnn13(width=16, dropout=0.0)"
    config.batch_size = config.unlabeled_batch_size = 50
    config.epochs, config.score_epochs, config.evaluate_epochs = 40, 2, 0.0
    config.seeds = config.runs_at_once = 2


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a column; "quick" and "smoke" are smaller.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *CELLS, "quick")
    column, recipe = CELLS.get(arg, ("cifar10_4000", ISDA))
    config = start(column, recipe)
    if arg == "quick":
        quick(config)
        fill_in(config, recipe.methods, common.GRID[2:3], known=QUICK_TERMS)
        return config
    if arg == "smoke":
        shrink(config)
    fill_in(config, recipe.methods, common.GRID[:2] if arg == "smoke" else common.GRID, recipe)
    if config.strengths:
        config.selection = "retrain"
        config.validation_per_class = config.train_sizes[0] // 4
    if arg != "smoke":
        publish(config, column)
    return config
