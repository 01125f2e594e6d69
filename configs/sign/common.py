"""What the tables and figures of the SIGN paper share: networks, recipe, methods, what is tested.

"Signed Input Regularization" (Taghanaki et al., 2019). The paper tells batches of 128, 100 epochs
(BasicCNN: 200) and that the epoch of the best validation accuracy is taken; here it is the last
one, and nothing is chosen by test images. It does not tell the optimizer and its rate, mixup's
alpha and the classical augmentation's numbers: Adam at 0.001 without weight decay, 1, and rotations
by up to 15 degrees, shifts by up to a tenth and both flips. Pixels are in [0, 1], without a mean or
a deviation.
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from configs import common
from configs.common import check as check

CLASSES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer")
CLASSES += ("dog", "frog", "horse", "ship", "truck")
EPOCHS = 100
CLASSICAL, MIXUP = "affine(rotation=15, shift=0.1)", "mixup(alpha=1.0)"
# In place of the policy that deepaugment found, which the paper does not print.
POLICY = "auto_augment(policy='cifar10')"

# Of the classes that the paper tests, those whose images without grey ones are as many as there:
# 49, 146, 50, 298 and 100.
TINY_IMAGENET = {
    "automobile": ("n04285008",),
    "bird": ("n01855672", "n02002724", "n02058221"),
    "cat": ("n02123045",),
    "dog": ("n02085620", "n02094433", "n02099601", "n02099712", "n02106662", "n02113799"),
    "frog": ("n01641577", "n01644900"),
}
OTHER = "Tiny ImageNet"
OUT_OF_DISTRIBUTION = (
    f"dataset(name='tiny_imagenet_subset', map={TINY_IMAGENET}, resize='whole', colored=True)"
)
# 50 of 1,024 pixels, and a deviation of 10 grey levels of 255.
DISTURBED = {
    "pixels off": "switched_off_pixels(amount=0.048828125, draws=10)",
    "noise": "white_noise(sigma=0.0392156863, protocol='pixel', draws=10)",
}
MEASURED = ("accuracy", "nll", "ece", "class_accuracy", "class_count", "unsure_by_class")
UNSURE = ("unsure_count", "unsure_probability", "unsure_uncertainty", "least_probability")


def methods(base: str = "cross_entropy") -> dict[str, str]:
    """The methods that train on the images themselves; SIGN is the base on images and copies."""
    return {"classical": f"{base} | {CLASSICAL}", "mixup": f"{base} | {MIXUP}"}


def form(arg: str, cells: Sequence[str]) -> tuple[str, str]:
    """The cell and the form that a config's argument names, such as "basic_cnn" and "sign".

    A cell is trained on the images themselves (""), with copies for as many epochs ("sign") or for
    as many steps ("sign_equal_updates").

    Args:
      arg: such as "basic_cnn_sign"; "" and "smoke" stand for the first cell.
      cells: the names of the table's cells; "" is one without a name.

    Raises:
      ValueError: an unknown argument.
    """
    forms = ("", "sign", "sign_equal_updates")
    known = {"_".join(filter(None, (c, f))): (c, f) for c in cells for f in forms}
    check(arg, *filter(None, known))
    return known.get(arg, (cells[0], ""))


def start(model: str, epochs: int = EPOCHS) -> ConfigDict:
    """CIFAR-10 and the paper's recipe, without methods."""
    config = common.base()
    config.dataset, config.model = "cifar10", model
    config.epochs, config.seeds = epochs, 3
    config.selection = "test"
    config.evaluate_epochs = 10.0
    config.runs_at_once = 1
    return config


def fill_in(config: ConfigDict, losses: Mapping[str, str], of: str, copies: str = "") -> None:
    """Adds the methods of a form, and the copies that it trains on.

    Args:
      config: to be changed.
      losses: by name.
      of: the form, see `form`.
      copies: the folders that `experiments.sign` has written, but the seed at their end.
    """
    config.losses = ConfigDict(losses, sort_keys=False)
    if of:
        config.joined = (f"npz:{copies}{{seed}}",)
        config.equal_updates = of == "sign_equal_updates"


def measure_unsure(config: ConfigDict) -> None:
    """Adds what Tables 2 and 3 show of images that are right at p <= 0.5."""
    config.metrics = MEASURED
    config.columns = ("accuracy", *UNSURE)


def publish(
    config: ConfigDict,
    table: str,
    accuracy: Mapping[str, float],
    under: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Sets the published numbers of the config's methods.

    Args:
      config: to be changed; its data set and network are those of the numbers.
      table: where they are printed.
      accuracy: by method, a share.
      under: by perturbation and method likewise.
    """
    mine = {name: accuracy[name] for name in config.losses if name in accuracy}
    clean = {name: {"0": (_percent(share), None)} for name, share in mine.items()}
    config.published = ConfigDict(clean, sort_keys=False)
    if under:
        disturbed = {m: {p: (_percent(x[m]),) for p, x in under.items()} for m in mine}
        config.published_robustness = ConfigDict(disturbed, sort_keys=False)
    config.published_source = f"Taghanaki et al., {table}"
    config.published_seeds = 1
    config.published_for = (config.dataset, config.model)


def _percent(share: float) -> float:
    return round(100 * share, 2)


def shrink(config: ConfigDict) -> None:
    """Changes a config to the embedded digits and a small network, without published numbers."""
    common.shrink(config, "small_cnn")
    config.published = config.published_robustness = ConfigDict()
    tested = {
        name: text.replace("draws=10", "draws=2") for name, text in config.perturbations.items()
    }
    if OTHER in tested:
        tested[OTHER] = "dataset(name='digits')"
    config.perturbations = ConfigDict(tested, sort_keys=False)
