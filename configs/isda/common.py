"""What the tables and figures of the ISDA paper share: networks, recipe, methods, published rows.

"Regularizing Deep Networks with Semantic Data Augmentation" (Wang et al., 2021), 6.1 and Table 9.
Where the authors' program differs, the paper stands here: the program pads crops by reflection, and
its rates and strengths change once an epoch, the rates one epoch earlier. It trains Wide-ResNets
with dropout of 0.3, which the paper says of WRN-28-10.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import common
from configs.common import check

# Of both data sets, as in the authors' program.
MEAN, STD = (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)
DATASETS = ("cifar10", "cifar100")
# Mean and standard deviation of errors, in percent; the latter is not always printed.
Error = tuple[float, float | None]
GRID = (0.1, 0.25, 0.5, 0.75, 1.0)


class Recipe(NamedTuple):
    """A row of Table 9."""

    epochs: int
    batch_size: int
    weight_decay: float
    learning_rate: float
    schedule: str


RESNET = Recipe(160, 128, 1e-4, 0.1, "step(epochs=(80, 120), factor=0.1)")
SE_RESNET = Recipe(200, 128, 1e-4, 0.1, "step(epochs=(80, 120, 160), factor=0.1)")
WIDE_RESNET = Recipe(240, 128, 5e-4, 0.1, "step(epochs=(60, 120, 160, 200), factor=0.2)")
DENSENET = Recipe(300, 64, 1e-4, 0.1, "step(epochs=(150, 200, 250), factor=0.1)")
RESNEXT = Recipe(350, 128, 5e-4, 0.05, "step(epochs=(150, 225, 300), factor=0.1)")
SHAKE_SHAKE = Recipe(1800, 64, 1e-4, 0.1, "cosine")
# Of the conference version's supplement, which trains it without a number in the paper.
SHAKE_PYRAMID = Recipe(1800, 128, 1e-4, 0.1, "cosine")

# By the name in a config's argument.
NETWORKS = {
    "resnet32": ("resnet32", RESNET),
    "resnet110": ("resnet110", RESNET),
    "se_resnet110": ("se_resnet110", SE_RESNET),
    "wide_resnet16_8": ("wide_resnet16_8(dropout=0.3)", WIDE_RESNET),
    "wide_resnet28_10": ("wide_resnet28_10(dropout=0.3)", WIDE_RESNET),
    "resnext29_8x64d": ("resnext29_8x64d", RESNEXT),
    "densenet_bc100_12": ("densenet_bc100_12", DENSENET),
    "shake_shake26_2x32d": ("shake_shake26(width=32)", SHAKE_SHAKE),
    "shake_shake26_2x112d": ("shake_shake26(width=112)", SHAKE_SHAKE),
    "shake_pyramidnet": ("shake_pyramidnet", SHAKE_PYRAMID),
}


ISDA = "isda(strength=0.5)"  # the strength that the paper recommends to start from

# Rivals of Table 5. The paper tells the numbers of the focal loss and the rate of the centers; the
# other numbers are those of the rivals' own papers and programs.
FOCAL = "focal(gamma=1.0, alpha=0.5)"
CENTER = "cross_entropy | center(weight=0.01, rate=0.5)"
SMOOTHING = "cross_entropy | label_smoothing(amount=0.1)"
LARGE_MARGIN = "large_margin(margin=4, base=1000.0, gamma=1e-5)"
DISTRIBUTION_NET = "distribution_net(samples=1, sampled=0.1, uncertainty=0.001, deviation=5.0)"


def cell(arg: str, names: Sequence[str], suffixes: Sequence[str] = ("",)) -> tuple[str, str, str]:
    """The data set, the network and the suffix that a config's argument names.

    Args:
      arg: such as "cifar100_resnet110"; "" and "smoke" stand for the first of all.
      names: the networks of the table, some of `NETWORKS`.
      suffixes: what may stand behind, such as "_dropout".

    Raises:
      ValueError: an unknown argument.
    """
    cells = {f"{d}_{n}{s}": (d, n, s) for s in suffixes for d in DATASETS for n in names}
    check(arg, *cells)
    return cells.get(arg, next(iter(cells.values())))


def table(arg: str, dataset: str, network: str) -> ConfigDict:
    """A cell of a table without methods: a network with its recipe, and the paper's protocol.

    That is five seeds, the strength chosen on 5,000 held-out images, all images to train on then,
    and the mean over the last ten epochs.
    """
    model, recipe = NETWORKS[network]
    config = start(recipe)
    config.dataset, config.model = dataset, model
    config.selection = "retrain"
    config.validation_per_class = 500 if dataset == "cifar10" else 50
    config.score_epochs = 10
    if arg == "smoke":
        shrink(config)
    return config


def without_choice(arg: str, dataset: str, network: str) -> ConfigDict:
    """A cell of a figure, whose strengths are given: all images are trained on, once."""
    config = table(arg, dataset, network)
    config.selection, config.validation_per_class = "test", 0
    return config


def start(recipe: Recipe) -> ConfigDict:
    """A config without data, network and losses, of which `fill_in` adds the last."""
    config = common.base()
    config.mean, config.std = MEAN, STD
    config.seeds = 5
    config.epochs, config.batch_size = recipe.epochs, recipe.batch_size
    # Biases and BatchNorm decay too, as in the authors' program.
    decay = f"add_decayed_weights(weight_decay={recipe.weight_decay:g})"
    config.optimizer = f"{decay} | sgd(momentum=0.9, nesterov=True)"
    config.learning_rate, config.schedule = recipe.learning_rate, recipe.schedule
    config.selection = "test"
    config.evaluate_epochs = 10.0
    config.runs_at_once = 1
    return config


def fill_in(config: ConfigDict, methods: Mapping[str, str]) -> None:
    """Adds the methods with the paper's crops and flips, and ISDA's strengths, which grow.

    Args:
      config: to be changed, when its data are known.
      methods: by name the loss.
    """
    padding = 1 if config.dataset == "digits" else 4
    crop = f"random_flip | random_crop(padding={padding}, fill={black(config)})"
    losses = {name: f"{loss} | {crop}" for name, loss in methods.items()}
    config.losses = ConfigDict(losses, sort_keys=False)
    grid = GRID[:2] if config.dataset == "digits" else GRID
    chosen = {name: grid for name, loss in losses.items() if "{strength}" in loss}
    config.strengths = ConfigDict(chosen, sort_keys=False)
    if any("isda(" in loss for loss in losses.values()):
        config.growing = ConfigDict({"isda": {"strength": "linear"}})


def sixth(name: str) -> ConfigDict:
    """A mixture with the share of generated images of Table 5, chosen there on validation images.

    A batch of 128 has 107 real images and 21 of them.
    """
    return ConfigDict({name: 1 / 6}, sort_keys=False)


def publish(
    config: ConfigDict, table: str, rows: Mapping[str, Error | None], size: int = 0
) -> None:
    """Sets the published numbers, errors of five runs in percent, as accuracies.

    Args:
      config: to be changed; its data set and network are those of the numbers.
      table: where they are printed.
      rows: by method the mean error and its standard deviation, or None for what is not printed.
      size: the images a class that they were trained on; 0 for all.
    """
    known = {name: error for name, error in rows.items() if error is not None}
    accuracies = {
        name: {f"{size}": (round(100 - mean, 2), std)} for name, (mean, std) in known.items()
    }
    config.published = ConfigDict(accuracies, sort_keys=False)
    config.published_source = f"Wang et al., {table}, 100 minus the error"
    config.published_seeds = 5
    config.published_for = (config.dataset, config.model)


def cutout(config: ConfigDict) -> str:
    """Cutout of 16 pixels before normalisation, as in the authors' program, for both data sets."""
    return f"cutout(size={2 if config.dataset == 'digits' else 16}, fill={black(config)})"


def augmentations(
    config: ConfigDict, operations: int = 2, magnitude: int = 9
) -> tuple[str, str, str]:
    """Cutout, RandAugment and AutoAugment, which Cutout follows in both.

    Args:
      config: when its data are known.
      operations: of RandAugment an image.
      magnitude: theirs.
    """
    hole = cutout(config)
    scale = f", mean={tuple(config.mean)}, std={tuple(config.std)}" if config.mean else ""
    drawn = f"rand_augment(operations={operations}, magnitude={magnitude}{scale})"
    return hole, f"{hole} | {drawn}", f"{hole} | auto_augment(policy='cifar10'{scale})"


def explicit(samples: int) -> str:
    """Explicit augmentation with so many samples, Figure 10, at the strength of `ISDA`."""
    return f"explicit_augmentation(strength=0.5, samples={samples})"


def learned(samples: int | None) -> str:
    """The same with covariances that are trained; the paper does not tell the numbers.

    Without a number of samples it is ISDA's bound.

    The margin is the entropy of 640 features that are moved by 0.3 each.
    """
    rest = "parameter='covariances', uncertainty=0.001, margin=138.0"
    return f"learned_augmentation(samples={samples}, {rest})"


def black(config: ConfigDict) -> tuple[float, ...]:
    """What black pixels are after normalisation."""
    pairs = zip(config.mean, config.std, strict=True)
    return tuple(round(-mean / std, 4) for mean, std in pairs) or (0.0,)


def shrink(config: ConfigDict) -> None:
    """Changes a config to the embedded digits and a small network."""
    common.shrink(config, "resnet8")
    config.validation_per_class = min(config.validation_per_class, 5)
    config.score_epochs = 1
