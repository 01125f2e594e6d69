"""ISDA's configs: every argument, the recipes of Table 9, the printed numbers, a step of each."""

import importlib

import numpy as np
import pytest
from tqdm import tqdm

from configs.isda import (
    common,
    figure9,
    figure11,
    quick,
    table1,
    table2,
    table3,
    table4,
    table5,
    table5_generators,
    table5_small,
    table6,
    table7,
    table8,
)
from experiments import generate
from experiments.benchmark.isda_networks import PAPER
from experiments.classify import CLASSIFICATION
from experiments.data import mixture, sources
from experiments.data.sources import Dataset
from experiments.models import MODELS, generators
from experiments.report.published import published
from experiments.runs import groups, networks, problem, step_checks
from experiments.runs.plan import plan
from experiments.segment import SEGMENTATION
from experiments.training import objectives
from experiments.training.interruption import Interruption
from experiments.training.loop import Training

CELLS = {
    "table1": tuple(table1.ROWS),
    "table2": tuple(f"{d}_{n}" for d in common.DATASETS for n in table2.NETWORKS),
    "table3": ("cifar100_resnet110",),
    "table4": tuple(table4.ERRORS),
    "table5": tuple(f"{c}{s}" for c in table5.COLUMNS for s in table5.FORMS),
    "table6": (*table6.CELLS, "quick"),
    "table7": tuple(table7.ROWS),
    "table8": tuple(f"{c}{s}" for c in table8.COLUMNS for s in ("", "_constant")),
    "figure5": ("",),
    "figure8": ("", "semi"),
    "figure9": ("", "cifar100", "quick"),
    "figure10": ("", "auto_augment"),
    "figure11": ("",),
    "figure11b": ("",),
    "quick": quick.FORMS,
    "table5_small": table5_small.FORMS,
}
EVERY = [(name, arg) for name, args in CELLS.items() for arg in args]


def get(name, arg=""):
    return importlib.import_module(f"configs.isda.{name}").get_config(arg)


@pytest.mark.parametrize(("name", "arg"), EVERY)
def test_every_cell_is_a_plan_with_a_network_of_the_package(name, arg):
    config = get(name, arg)
    runs = plan(config.to_dict())
    assert len({run.method for run in runs}) == len(config.losses)
    assert config.model.partition("(")[0] in MODELS
    assert "isda" not in config.growing or any("isda(" in run.loss for run in runs)
    assert all("isda(" not in run.loss for run in runs) or config.growing or "constant" in arg


@pytest.mark.parametrize(
    ("network", "epochs", "batch", "decay", "rate", "falls", "factor"),
    [
        ("resnet32", 160, 128, 1e-4, 0.1, (80, 120), 0.1),
        ("se_resnet110", 200, 128, 1e-4, 0.1, (80, 120, 160), 0.1),
        ("wide_resnet16_8", 240, 128, 5e-4, 0.1, (60, 120, 160, 200), 0.2),
        ("densenet_bc100_12", 300, 64, 1e-4, 0.1, (150, 200, 250), 0.1),
        ("resnext29_8x64d", 350, 128, 5e-4, 0.05, (150, 225, 300), 0.1),
        ("shake_shake26_2x112d", 1800, 64, 1e-4, 0.1, None, None),
    ],
)
def test_the_recipes_of_table_9(network, epochs, batch, decay, rate, falls, factor):
    config = get("table2", f"cifar100_{network}")
    assert (config.epochs, config.batch_size, config.learning_rate) == (epochs, batch, rate)
    assert f"weight_decay={decay:g})" in config.optimizer
    assert config.optimizer.endswith("sgd(momentum=0.9, nesterov=True)")
    steps = "cosine" if falls is None else f"step(epochs={falls}, factor={factor})"
    assert config.schedule == steps
    assert (config.seeds, config.selection, config.score_epochs) == (5, "retrain", 10)
    assert config.validation_per_class * 100 == 5000
    assert config.growing.isda.strength == "linear"
    assert config.strengths.ISDA == (0.1, 0.25, 0.5, 0.75, 1.0)


def test_the_strengths_of_imagenet():
    found = {name: get("table1", name).strengths.ISDA[0] for name in table1.ROWS}
    resnets = {"resnet50": 7.5, "resnet101": 5.0, "resnet152": 7.5}
    others = {"densenet121": 1.0, "densenet265": 1.0}
    assert found == resnets | others | {"resnext50_32x4d": 7.5, "resnext101_32x8d": 7.5}


def sums(rows):
    """Of errors and of deviations, as far as they are printed."""
    cells = np.array([[c or (0, 0) for c in row] for row in rows], float)
    return np.nansum(cells, 0).round(2).tolist()


# Added up from the printed tables, column by column: errors and deviations.
SUMS = {
    "table2": [[43.49, 1.19], [41.02, 1.27], [204.25, 2.28], [198.07, 2.30]],
    "table4": [
        *([62.82, 0.89], [59.37, 0.46], [59.24, 0.55]),
        *([54.97, 0.67], [56.86, 0.95], [53.76, 1.04]),
    ],
    "table5": [[97.15, 2.71], [391.51, 4.02], [48.90, 1.23], [221.29, 1.82]],
    "table8": [[22.09, 0.72], [109.94, 0.58], [105.83, 1.27]],
}


def test_the_column_sums_of_the_printed_tables():
    flat = [[*ten, *hundred] for ten, hundred in table2.ERRORS.values()]
    assert sums(flat) == SUMS["table2"]
    flat = [[cell for pair in line for cell in pair] for line in table4.ERRORS.values()]
    assert sums(flat) == SUMS["table4"]
    assert sums(table5.ERRORS.values()) == SUMS["table5"]
    assert sums(table8.ERRORS.values()) == SUMS["table8"]


def test_a_cell_publishes_its_numbers_as_accuracies():
    config = get("table5", "cifar100_resnet110")
    found = published(config.to_dict() | {"published_for": list(config.published_for)})
    assert found["ISDA", 0] == (72.43, 0.46)
    assert found["infoGAN", 0] == (72.36, 0.14)
    assert ("WGAN", 0) not in found
    assert published(get("table1").to_dict() | {"published_for": ["imagenet2012", "resnet50"]}) == {
        ("baseline", 0): (77.0, None),
        ("ISDA", 0): (78.1, None),
    }


def test_the_networks_that_are_counted_are_those_of_the_tables():
    assert [row.model for row in PAPER.values()] == [
        common.NETWORKS[name][0] for name in table2.ERRORS
    ]
    assert [row.batch for row in PAPER.values()] == [
        common.NETWORKS[name][1].batch_size for name in table2.ERRORS
    ]


def test_the_costs_that_are_printed_are_those_of_table_3():
    printed = {name: (row.millions, *map(tuple, row.added.values())) for name, row in PAPER.items()}
    assert printed == table3.ROWS


def test_shake_pyramidnet_trains_by_the_supplements_recipe_without_a_published_number():
    config = get("table2", "cifar10_shake_pyramidnet")
    assert (config.model, config.epochs, config.batch_size) == ("shake_pyramidnet", 1800, 128)
    assert (config.learning_rate, config.schedule) == (0.1, "cosine")
    assert "weight_decay=0.0001" in config.optimizer
    assert not config.published


@pytest.mark.parametrize(
    ("column", "rate"), list(zip(table5.COLUMNS, (0.05, 0.1, 0.05, 0.05), strict=True))
)
def test_the_rates_of_disturbed_labels(column, rate):
    assert f"disturb_label(rate={rate})" in get("table5", column).losses["disturb label"]


@pytest.mark.parametrize(
    ("cell", "mixed", "counts"),
    [
        ("table5:cifar10_resnet110_wgan", "npz:runs/samples/cifar10_wgan", (107, 21)),
        (
            "table5:cifar100_wide_resnet28_10_infogan",
            "npz:runs/samples/cifar100_infogan",
            (107, 21),
        ),
        ("table5_small:mnist_cgan", "npz:runs/table5/samples/mnist_cgan_{seed}", (40, 8)),
        ("table5_small:cifar10_acgan", "npz:runs/table5/samples/cifar10_acgan_{seed}", (40, 8)),
        ("table5_small:smoke", "digits", (21, 4)),
    ],
)
def test_a_sixth_of_a_batch_is_generated(cell, mixed, counts):
    config = get(*cell.split(":"))
    assert list(config.mixture) == [mixed]
    assert mixture.mixed_counts(config.batch_size, list(config.mixture.values())) == counts
    (loss,) = config.losses.values()
    assert loss.partition(" | ")[0] == "cross_entropy"


def test_rows_of_generators_have_their_published_numbers_and_the_tables_network():
    config = get("table5", "cifar10_wide_resnet28_10_wgan")
    found = published(config.to_dict() | {"published_for": list(config.published_for)})
    assert list(config.losses) == ["WGAN"]
    assert found["WGAN", 0] == (96.19, 0.08)
    assert config.model == "wide_resnet28_10(dropout=0.3)"


def test_digits_are_not_mirrored_and_the_small_table_has_plain_training_and_isda():
    config = get("table5_small", "mnist")
    assert dict(config.losses) == {"baseline": "cross_entropy", "ISDA": "isda(strength=0.1)"}
    assert not config.mixture
    assert "random_flip" in get("table5_small", "cifar10").losses.baseline


def test_what_is_not_published_stays_what_the_figures_are_about():
    assert figure9.get_config().keep_checkpoints * 4 == common.RESNET.epochs
    assert figure11.get_config().strengths.ISDA == figure11.STRENGTHS


def test_the_column_sums_of_table_6_and_what_isda_gains_by_the_text():
    """1.38 points of VAT with 4,000 labels, 3.74 with 1,000, 4.08 with 10,000 of CIFAR-100."""
    rows = [[*row, None][:6] for row in table6.ERRORS.values()]
    assert sums(rows) == [
        *([168.53, 6.43], [114.48, 2.53], [88.37, 1.77]),
        *([303.81, 2.68], [255.29, 3.26], [18.20, 0.64]),
    ]
    both = zip(table6.ERRORS["VAT"], table6.ERRORS["VAT + ISDA"], strict=True)
    gains = [round(before - after, 2) for (before, _), (after, _) in both]
    assert (gains[2], gains[0], gains[3]) == (1.38, 3.74, 4.08)


@pytest.mark.parametrize(
    ("cell", "epochs", "labels", "batches", "steps"),
    [
        ("cifar10_4000", 4875, 400, (128, 128), 156_000),
        ("cifar10_1000_laine_aila", 15_000, 100, (100, 100), 150_000),
        ("cifar100_20000_mean_teacher", 750, 200, (100, 100), 150_000),
        ("cifar10_4000_vat", 1600, 400, (32, 128), 200_000),
        ("svhn_500", 57_200, 50, (128, 128), 228_800),
        ("svhn_500_vat", 3000, 50, (32, 128), 48_000),
    ],
)
def test_the_recipes_of_table_6(cell, epochs, labels, batches, steps):
    config = get("table6", cell)
    assert (config.epochs, config.train_sizes) == (epochs, (labels,))
    assert (config.batch_size, config.unlabeled_batch_size) == batches
    classes = 100 if "cifar100" in cell else 10
    assert -(-labels * classes // config.batch_size) * epochs == steps
    assert (config.seeds, config.score_epochs, config.evaluate_teacher) == (5, 10, True)
    chosen = ("retrain", labels // 4) if config.strengths else ("test", 0)
    assert (config.selection, config.validation_per_class) == chosen
    assert all(len(values) == 5 for values in config.strengths.values())


def test_weights_ramp_over_80_of_300_epochs_and_are_those_of_the_papers():
    config = get("table6", "cifar100_10000")
    growing = config.growing
    assert growing.pi_model.weight == growing.mean_teacher.weight
    assert growing.pi_model.weight == "sigmoid(epochs=526.667, idle=4.9375)"
    assert config.epochs / 4.9375 == 400  # nothing in the first of them
    assert "vat" not in growing
    assert growing.isda.strength == "linear"
    assert "temporal_ensembling(weight=100.0, " in config.losses["temporal ensembling"]
    assert "temporal_ensembling(weight=30.0, " in get("table6").losses["temporal ensembling"]
    assert "epsilon=8.0" in config.losses["VAT"]
    assert "epsilon=3.5" in get("table6", "svhn_500").losses["VAT"]


def test_ramps_are_those_of_the_methods_own_programs():
    """Nothing in Laine and Aila's first of 300 epochs; on SVHN 40,000 steps up, 25,000 down."""
    config = get("table6", "cifar10_4000_laine_aila")
    assert config.schedule == "ramps(up=1000, down=625)"
    both = [config.growing[name].weight for name in ("pi_model", "temporal_ensembling")]
    assert both == ["sigmoid(epochs=1000, idle=12.5)"] * 2
    assert 12.5 * -(-4000 // config.batch_size) == 500
    config = get("table6", "svhn_500_mean_teacher")
    steps = 180_000 / config.epochs
    assert config.schedule == f"ramps(up={40_000 / steps:g}, down={25_000 / steps:g})"
    assert config.growing.mean_teacher.weight == f"sigmoid(epochs={40_000 / steps:g})"


def test_equation_19_is_written_as_it_reads():
    assert get("table6").losses["VAT + ISDA"] == (
        "isda(strength={strength}) | semantic_consistency(weight=1.0) | vat(weight=1.0, "
        "epsilon=8.0) | random_flip | random_crop(padding=2, mode='reflect')"
    )
    assert "random_flip" not in get("table6", "svhn_500").losses["VAT + ISDA"]


def test_a_column_of_table_6_publishes_its_numbers_by_labels():
    config = get("table6", "cifar10_1000_vat")
    assert config.published.to_dict() == {
        "VAT": {"100": (81.88, 0.82)},
        "VAT + ISDA": {"100": (85.62, 0.18)},
    }
    assert config.published_for == ("cifar10", "cnn13")
    assert not get("table6", "quick").published


def test_the_quick_form_of_table_6_is_of_half_the_side_and_its_own_weights():
    config = get("table6", "quick")
    assert config.image_size == 16
    assert 80 * config.epochs == 3200
    assert config.losses["mean teacher"] == (
        "cross_entropy | mean_teacher(weight=10.0, decay=0.99) | random_flip | "
        "random_crop(padding=1, mode='reflect')"
    )
    assert "vat(weight=1.0, epsilon=1.0)" in config.losses["VAT + ISDA"]
    assert list(config.losses) == list(get("table6").losses)


def test_what_isda_gains_on_cityscapes_is_what_table_7_prints():
    gains = {
        network: tuple(
            round(after - before, 2)
            for before, after in zip(rows["baseline"], rows["ISDA"], strict=True)
        )
        for network, rows in table7.ROWS.items()
    }
    assert gains == {"pspnet": (1.26, 1.54, 1.03), "deeplab_v3": (1.03, 1.10, 0.89)}


def test_the_recipe_of_table_7_is_that_of_the_program():
    config = get("table7", "deeplab_v3")
    assert abs(config.epochs * 2975 / config.batch_size - 40_000) < 2975 / config.batch_size
    assert (config.learning_rate, config.schedule) == (0.01, "polynomial(power=0.9)")
    assert config.optimizer == "add_decayed_weights(weight_decay=5e-4) | sgd(momentum=0.9)"
    # Blue, green and red there.
    given = [104.00698793, 116.66876762, 122.67891434]
    np.testing.assert_allclose(255 * np.array(config.mean)[::-1], given, atol=2e-4)
    np.testing.assert_allclose(255 * np.array(config.std), 1, atol=1e-5)
    moved = " | random_flip | scaled_crop(size=769, low=0.7, high=2.1, step=0.1)"
    assert config.losses.baseline == f"cross_entropy(auxiliary=0.4){moved}"
    isda = config.losses.ISDA
    assert isda == (
        "isda(strength={strength}, covariance='diagonal', auxiliary=0.4, "
        f"resizing='align_corners'){moved}"
    )
    assert (config.strengths.ISDA, config.growing.isda.strength) == ((7.5,), "linear")
    found = published(config.to_dict() | {"published_for": list(config.published_for)})
    assert found == {("baseline", 0): (78.38, None), ("ISDA", 0): (79.41, None)}


def test_the_archives_folders_stand_beside_the_numbers_of_table_7_too():
    config = get("table7").to_dict() | {"published_for": ["cityscapes", "pspnet"]}
    assert published(config | {"dataset": "cityscapes:~/cityscapes"}) == published(config) != {}
    assert published(config | {"dataset": "folder:~/cityscapes"}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("network", table7.ROWS)
def test_the_networks_of_table_7_fit_its_data_and_losses(network, monkeypatch):
    """Traced, of images as large as those of Cityscapes, of which none is looked at."""

    class Opened:
        classes, scored, about, dense, shape = 19, "validation", "", True, (1024, 2048, 3)
        examples, test_examples, validation_examples = 2975, 500, 0
        class_names = tuple(map(str, range(19)))

        def __init__(self, *_, **options):
            assert not options["image_size"]

    for module in (problem, networks):
        monkeypatch.setattr(module, "Streams", Opened)
    config = get("table7", network).to_dict()
    of, runs = problem.Problem(config, SEGMENTATION), plan(config)
    assert of.steps(0) == 40_162
    step_checks.check(of, runs)
    step_checks.check_evaluations(of, runs, {})


@pytest.mark.parametrize("arg", ["", "mnist", "cifar10", "smoke"])
def test_the_generators_of_the_small_table_are_planned_as_its_rows_are_named(arg):
    config = table5_generators.get_config(arg)
    runs = plan(config.to_dict(), objectives.parse)
    assert tuple(f"_{method}" for method in config.losses) == tuple(table5.GENERATORS)
    assert len(runs) == 4 * config.seeds
    assert objectives.parse(config.losses.wgan).each_class  # Table 5's has one for each class
    pair, latents = generators.read(config.model)
    assert (pair.width, latents) == ((4, 8) if arg == "smoke" else (16, 100))


SMALL = {
    "table5": "two_headed(model='small_cnn')",
    "figure10": "with_covariances(model='small_cnn')",
}


@pytest.fixture
def random_data(monkeypatch):
    """Every data set is a few random images of its shape."""

    def load(name, data_dir, **options):
        shape = (8, 8, 1) if name == "digits" else (16, 16, 3)
        image = np.random.default_rng(0).integers(0, 256, (1600, *shape)).astype(np.uint8)
        split = {"image": image, "label": (np.arange(1600) % 10).astype(np.int32)}
        return Dataset(name, split, split, 10)

    monkeypatch.setattr(sources, "load", load)


@pytest.mark.parametrize("dataset", table5_small.DATASETS)
def test_a_generator_sees_the_images_of_the_classifier_that_it_helps(dataset, random_data):
    made = table5_generators.get_config(dataset).to_dict()
    seen = get("table5_small", f"{dataset}_acgan").to_dict()
    assert (
        (made["seeds"], made["train_sizes"]) == (seen["seeds"], seen["train_sizes"]) == (3, (50,))
    )
    both = [
        problem.Problem(made, generate.GENERATION).source,
        problem.Problem(seen, CLASSIFICATION).source,
    ]
    for seed in range(3):
        first, second = (np.sort(source.indices(50, seed)[0]) for source in both)
        np.testing.assert_array_equal(first, second)
        assert len(first) == 500


@pytest.mark.slow
def test_the_smoke_form_of_the_generators_trains(tmp_path):
    config = table5_generators.get_config("smoke")
    config.runs_at_once = 2  # each is on one device
    generate.compare(config, tmp_path)
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table4", "table5", "table6", "table8", "figure10"])
def test_every_loss_takes_a_step(name, random_data, tmp_path):
    """With the small network, of images that are large enough for every augmentation."""
    config = get(name, "smoke" if name == "figure10" else "")  # of as few samples
    config.model = SMALL.get(name, "small_cnn")
    config.train_sizes, config.batch_size = (2,), 20
    config.unlabeled_batch_size = min(config.unlabeled_batch_size, 20)
    config.epochs = config.score_epochs = config.seeds = 1
    config.runs_at_once = 1 if name == "table8" else 2
    config.selection, config.validation_per_class, config.strategy = "test", 1, "map"
    config.strengths = dict.fromkeys(config.strengths, (0.5,))
    one = problem.Problem(config.to_dict(), CLASSIFICATION)
    runs = plan(config.to_dict())
    for _, group in groups.groups(one, runs, runs):
        settings = groups.settings(one, profile=False)
        folder = tmp_path / group.name
        training = Training(group, folder, settings, Interruption(), tqdm(disable=True))
        (scores,), progress = training.run()
        assert np.isfinite(progress.total).all(), group.name
        assert np.isfinite(scores["test_nll"]), group.name
