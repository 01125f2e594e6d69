"""What the tables and figures of the Noisy Feature Mixup paper share: recipe, schemes, levels."""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs import common
from configs.common import check as check

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
# Of a pre-activation ResNet the last stage is not eligible.
LAYERS: tuple[str, ...] = ("input", "stages.0", "stages.1", "stages.2")

# Levels of Tables 1 and 2; both ways of adding noise, of which the paper's tables have the first.
NOISES = {
    "white noise": "white_noise(sigma=(0.1, 0.2, 0.3))",
    "salt and pepper": "salt_and_pepper(amount=(0.02, 0.04, 0.1))",
    "white noise on pixels": "white_noise(sigma=(0.1, 0.2, 0.3), protocol='pixel')",
    "salt and pepper on pixels": "salt_and_pepper(amount=(0.02, 0.04, 0.1), protocol='pixel')",
}


def schemes(
    layers: tuple[str, ...] = LAYERS, add: float = 0.4, multiply: float = 0.2
) -> dict[str, str]:
    """Every scheme of Table 1 as a loss, without augmentation.

    Args:
      layers: the eligible ones.
      add: the added noise of Noisy Feature Mixup.
      multiply: the multiplied noise of Noisy Feature Mixup.
    """
    # The level of the noise is drawn, as in the authors' program: by a mixup that does not mix.
    return {
        "baseline": "cross_entropy",
        "noise": "cross_entropy | noisy_mixup(alpha=0.0, add=0.2, multiply=0.0)",
        "label smoothing": "cross_entropy | label_smoothing(amount=0.1)",
        "mixup": "cross_entropy | mixup(alpha=1.0)",
        "CutMix": "cross_entropy | cutmix(alpha=1.0)",
        "PuzzleMix": "cross_entropy | puzzlemix(alpha=1.0)",
        "manifold mixup": f"cross_entropy | manifold_mixup(alpha=1.0, layers={layers})",
        "noisy mixup": "cross_entropy | noisy_mixup(alpha=1.0, add=0.2, multiply=0.1)",
        "NFM": f"cross_entropy | noisy_feature_mixup(alpha=1.0, add={add}, multiply={multiply}, "
        f"layers={layers})",
    }


def cifar(arg: str, dataset: str, model: str, names: Sequence[str]) -> ConfigDict:
    """The authors' recipe for CIFAR.

    Args:
      arg: "quick" is what two CPU cores train in some hours, "smoke" takes a minute.
      dataset: of the full form.
      model: of the full form.
      names: of the schemes; "quick" leaves those out that it has not the time for.
    """
    config = common.base()
    config.dataset, config.model = dataset, model
    config.mean, config.std = MEAN, STD
    config.seeds = 5
    config.epochs = 200
    # As in the authors' program, biases and BatchNorm decay too (mask='kernels' leaves them out).
    config.optimizer = "add_decayed_weights(weight_decay=5e-4) | sgd(momentum=0.9)"
    config.learning_rate = 0.1
    config.schedule = "step(epochs=(100, 150, 180), factor=0.1)"
    config.selection = "test"
    config.evaluate_epochs = 10.0
    config.runs_at_once = 1
    layers, padding = LAYERS, 4
    if arg == "quick":
        _quicken(config)
        names = [n for n in names if n in ("baseline", "noise", "mixup", "manifold mixup", "NFM")]
    if arg == "smoke":
        layers, padding = shrink(config), 1
    # Zeros around the pixels, as they are after normalisation.
    pairs = zip(config.mean, config.std, strict=True)
    black = tuple(round(-mean / std, 4) for mean, std in pairs) or (0.0,)
    known = schemes(layers)
    crop = f"random_crop(padding={padding}, fill={black})"
    losses = {name: f"{known[name]} | random_flip | {crop}" for name in names}
    config.losses = ConfigDict(losses, sort_keys=False)
    return config


def _quicken(config: ConfigDict) -> None:
    config.dataset = "cifar10_jpeg"
    config.train_sizes = (1000,)
    config.model = "preact_resnet18(width=8)"
    config.seeds = 3
    config.epochs = 30
    config.schedule = "step(epochs=(15, 22.5, 27), factor=0.1)"
    config.checkpoint_steps = 500
    config.runs_at_once = 3


def shrink(config: ConfigDict) -> tuple[str, ...]:
    """Changes a config to the embedded digits and a small network; returns its eligible layers."""
    common.shrink(config, "small_cnn")
    return ("input", "conv1", "conv2")


def publish(
    config: ConfigDict,
    source: str,
    rows: Mapping[str, Sequence[float]],
    seeds: int,
    size: str = "0",
) -> None:
    """Sets the published numbers: of each scheme clean, under white noise, under salt and pepper.

    Args:
      config: to be changed; its data set and network are those of the numbers.
      source: table and paper.
      rows: seven numbers in percent of each scheme.
      seeds: how many the numbers are means of.
      size: the training size.
    """
    mine = {name: row for name, row in rows.items() if name in config.losses}
    clean = {name: {size: (row[0], None)} for name, row in mine.items()}
    noisy = {
        name: {"white noise": tuple(row[1:4]), "salt and pepper": tuple(row[4:7])}
        for name, row in mine.items()
    }
    config.published = ConfigDict(clean, sort_keys=False)
    config.published_robustness = ConfigDict(noisy, sort_keys=False)
    config.published_source = source
    config.published_seeds = seeds
