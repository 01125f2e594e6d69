"""SIGN's configs: every argument, the printed numbers, a step, what is tested."""

import importlib
import re

import numpy as np
import pytest

from configs.sign import common, isic, table1, table2, table3, table4, table5
from experiments.classify import CLASSIFICATION
from experiments.data import sources
from experiments.data.sources import Dataset, MissingDataError
from experiments.evaluation.answers import read
from experiments.evaluation.perturbation_entries import read_all
from experiments.models import MODELS
from experiments.report.published import published
from experiments.runs import problem, step_checks, testing
from experiments.runs.plan import plan

CELLS = {
    "table1": ("mobilenet", "basic_cnn"),
    "table2": ("",),
    "table3": ("",),
    "table4": ("",),
    "table5": ("mobilenet", "basic_cnn"),
    "figure5": ("",),
    "isic": ("", "quick"),
    "quick": ("", "aleatoric"),
}
FORMS = ("", "sign", "sign_equal_updates")
EVERY = [
    (name, "_".join(filter(None, (cell, form))))
    for name, cells in CELLS.items()
    for cell in cells
    for form in FORMS
]


def get(name, arg=""):
    return importlib.import_module(f"configs.sign.{name}").get_config(arg)


@pytest.mark.parametrize(("name", "arg"), EVERY)
def test_every_cell_is_a_plan(name, arg):
    config = get(name, arg)
    runs = plan(config.to_dict())
    signed = "sign" in arg
    assert [m for m in config.losses if "SIGN" in m or m == "transfer"] == list(
        config.losses
    ) * signed
    assert len(runs) == 3 * len(config.losses)
    assert config.mean == config.std == ()
    assert config.joined == ((config.joined[0],) if signed else ())
    assert all(name.startswith("npz:runs/") and "{seed}" in name for name in config.joined)
    assert config.equal_updates == arg.endswith("equal_updates")
    assert set(re.findall(r"\w+", config.model)) & (set(MODELS) - {"two_headed"})


@pytest.mark.parametrize(
    "rows",
    [table1.ROWS["mobilenet"], table1.ROWS["basic_cnn"], table4.ROWS],
    ids=["mobilenet", "basic_cnn", "transfer"],
)
def test_printed_means_are_those_of_the_classes(rows):
    for *classes, mean in rows.values():
        assert len(classes) == len(common.CLASSES)
        np.testing.assert_allclose(np.mean(classes), mean, atol=5.1e-5)


@pytest.mark.parametrize(
    ("rows", "images"),
    [(table2.ROWS, (1000,) * 10), (table3.ROWS, table3.COUNTS)],
    ids=["table2", "table3"],
)
def test_printed_pools_are_those_of_the_images(rows, images):
    """Accuracies are shares of whole images; p and uncertainty means over those at p <= 0.5."""
    for accuracy, *unsure in rows.values():
        right = np.round(np.array(accuracy[:-1]) * images)
        np.testing.assert_allclose(right / images, accuracy[:-1], atol=5.1e-5)
        np.testing.assert_allclose(right.sum() / sum(images), accuracy[-1], atol=5.1e-5)
        p, number, uncertainty = (np.array([x or 0 for x in each], float) for each in unsure)
        assert number[:-1].sum() == number[-1]
        for values in (p, uncertainty):
            assert abs(values[:-1] @ number[:-1] / number[-1] - values[-1]) < 2e-4


# Added up from the printed tables, method by method, means included.
SUMS = {
    table1: [9.4050, 9.4424, 9.5007, 9.5128, 9.5601],
    table4: [8.8935, 9.3258],
}


def test_the_sums_of_the_printed_rows():
    rows = [row for cell in table1.ROWS.values() for row in cell.values()]
    assert [round(sum(row), 4) for row in rows] == SUMS[table1]
    assert [round(sum(row), 4) for row in table4.ROWS.values()] == SUMS[table4]


def test_what_is_published_of_a_cell():
    config = get("table5", "basic_cnn_sign")
    assert published(config) == {("deepaugment + SIGN", 0): (86.91, None)}
    under = config.published_robustness["deepaugment + SIGN"]
    assert dict(under) == {"pixels off": (84.79,), "noise": (79.8,)}
    assert dict(get("table3").published_robustness["mixup"]) == {common.OTHER: (47.59,)}
    assert published(get("table2", "sign")) == {("SIGN", 0): (85.91, None)}
    assert isic.AUC["SIGN"][0] - isic.AUC["baseline"][0] == pytest.approx(0.0498)
    assert table5.ROWS["basic_cnn"]["deepaugment + SIGN"][0] == (0.8479, 4e-6)


def test_what_is_tested():
    found = read_all(common.DISTURBED)
    assert round(found["pixels off"].levels[0] * 1024) == 50
    assert found["noise"].levels[0] * 255 == pytest.approx(10)
    assert {p.draws for p in found.values()} == {10}
    names = [wnid for each in common.TINY_IMAGENET.values() for wnid in each]
    assert len(names) == len(set(names)) == 13
    assert set(common.TINY_IMAGENET) < set(common.CLASSES)


def slow_unless_quick(name):
    """Quick has all methods and perturbations, ISIC a class against the rest."""
    return pytest.param(name, marks=() if name in ("quick", "isic") else pytest.mark.slow)


@pytest.fixture
def random_data(monkeypatch):
    """Every data set is a few random images of its shape."""

    def load(name, data_dir=None, image_size=0, **options):
        size = 8 if name == "digits" else image_size or 32
        shape = (size, size, 1 if name == "digits" else 3)
        classes = ("nevus", "melanoma", "keratosis") if "isic" in name else common.CLASSES
        classes = tuple(map(str, range(10))) if name == "digits" else classes
        image = np.random.default_rng(0).integers(0, 256, (60, *shape)).astype(np.uint8)
        split = {"image": image, "label": (np.arange(60) % len(classes)).astype(np.int32)}
        return Dataset(name, split, split, len(classes), classes)

    monkeypatch.setattr(sources, "load", load)
    monkeypatch.setenv("TFDS_DATA_DIR", "")


@pytest.mark.parametrize("name", [slow_unless_quick(name) for name in CELLS])
def test_smoke_fits_the_network(name, random_data):
    """Its losses and what it is tested on, as shapes only."""
    config = get(name, "smoke")
    config.train_sizes = (2,)
    of = problem.Problem(config.to_dict(), CLASSIFICATION)
    runs = plan(config.to_dict())
    step_checks.check(of, runs)
    texts = config.perturbations.to_dict()
    texts.pop(common.OTHER, None)  # which has to be there
    against = read_all(texts, read(config.uncertainty))
    step_checks.check_evaluations(of, runs, against)


@pytest.mark.slow
def test_tiny_imagenet_has_the_papers_images():
    """Of the real data set, where it is there."""
    config = get("quick")
    perturbation = read_all({common.OTHER: common.OUT_OF_DISTRIBUTION})[common.OTHER]
    spec = problem.spec.Spec({"image": np.zeros((32, 32, 3))}, 10, common.CLASSES)

    class Of:
        """As much of a problem as reading takes."""

    Of.spec, Of.config = spec, config.to_dict()
    try:
        found = testing._read(Of, perturbation, "tiny_imagenet_subset")
    except MissingDataError:
        pytest.skip("there is no tiny_imagenet_subset in TFDS_DATA_DIR")
    counts = np.bincount(found["label"], minlength=10)
    expected = dict(zip(table3.CLASSES, table3.COUNTS, strict=True))
    assert dict(zip(common.CLASSES, counts.tolist(), strict=True)) == {
        name: expected.get(name, 0) for name in common.CLASSES
    }
    assert found["image"].shape == (643, 32, 32, 3)
