"""Every config in both forms: its structure, its way through JSON and the command line.

Covers `networks.py` too.
"""

import importlib
import itertools
import json
import pathlib
import re

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from tqdm import tqdm

from experiments.classify import CLASSIFICATION
from experiments.data import sources
from experiments.data.sources import Dataset
from experiments.evaluation.perturbation_entries import read_all
from experiments.report.published import published
from experiments.runs import entry_checks, groups, networks, problem
from experiments.runs.entries import ENTRIES
from experiments.runs.plan import plan
from experiments.runs.step_checks import check, check_evaluations
from experiments.training.interruption import Interruption
from experiments.training.loop import Training
from regjax.core.stages import REGISTRY

ROOT = pathlib.Path(__file__).parents[1]
# A search, generators and masks have tests of their own.
SHARED = ("__init__", "common", "search", "mnist_generators", "table5_generators", "camvid")
CONFIGS = sorted(
    str(path.relative_to(ROOT).with_suffix(""))
    for path in (ROOT / "configs").rglob("*.py")
    if path.stem not in SHARED
)
TABLES = ("table2", "table3", "table4")
# Their methods, numbers and steps are in test_configs_isda.py.
ISDA = tuple(name for name in CONFIGS if name.startswith("configs/isda/"))
# Likewise in test_configs_sign.py.
SIGN = tuple(name for name in CONFIGS if name.startswith("configs/sign/"))
ELSEWHERE = (*ISDA, *SIGN, "configs/nfm/table3")
# Their methods are as they say.
OWN = (*ISDA, *SIGN, "configs/digits_semi_supervised", "configs/mnist_semi_supervised")
OWN += ("configs/mnist_judge",)
IN_MEMORY = [name for name in CONFIGS if name not in ELSEWHERE and "figure" not in name]
NFM = ("configs/nfm/table1", "configs/nfm/table2", "configs/nfm/figure5", "configs/nfm/figure6")
THESIS = ["db", "jac", "fob", "NI", "baseline", "hsfob", "hsfob-db1", "hsfob-db2"]
MIXING = ["mixup", "CutMix", "manifold mixup", "noisy mixup", "NFM", "baseline"]
MIXING += ["ISDA", "ISDA, diagonal"]
SCHEMES = ["baseline", "noise", "label smoothing", "mixup", "CutMix", "PuzzleMix"]
SCHEMES += ["manifold mixup", "noisy mixup", "NFM"]


def methods(name: str, arg: str = "") -> list[str]:
    """What the rows of a config's table are called."""
    if name in OWN:
        return list(get(name, arg).losses)
    others = {
        "configs/digits_mixing": MIXING,
        "configs/nfm/table2": [name for name in SCHEMES if name != "label smoothing"],
        "configs/nfm/table3": ["baseline", "manifold mixup", "NFM", "NFM, alpha 1"],
    }
    return others.get(name, SCHEMES if name in NFM else THESIS)


# Those with a class for every pixel, which another command trains.
SEGMENTATION = ("configs/camvid", "configs/isda/table7")
MASKS = "experiments.data.digit_masks:digit_masks"


every_config = pytest.mark.parametrize(
    ("name", "arg"),
    [
        *itertools.product(CONFIGS, ("", "smoke")),
        *((f"configs/thesis/{name}", "quick") for name in TABLES),
    ],
)
SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
SHAPES |= {"cifar100": SHAPES["cifar10"], "cifar10_jpeg": SHAPES["cifar10"]}
SHAPES["npz:runs/moves"] = SHAPES["cifar10"]


def get(name, arg=""):
    return importlib.import_module(name.replace("/", ".")).get_config(arg)


def table(name):
    return get(f"configs/thesis/{name}")


def test_the_configs_of_the_readme_are_found():
    assert {"configs/digits", *(f"configs/thesis/{name}" for name in TABLES)} <= set(CONFIGS)


@every_config
def test_entries(name, arg):
    config = get(name, arg)
    assert set(config) == {entry.name for entry in ENTRIES}
    entry_checks.check(config.to_dict())
    assert len(config.mean) == len(config.std)
    assert min(config.train_sizes) > 0 or config.train_sizes == (0,)


@every_config
def test_exactly_the_methods_with_a_strength_have_strengths(name, arg):
    config = get(name, arg)
    assert list(config.losses) == methods(name, arg)
    varied = {method for method, loss in config.losses.items() if "{strength}" in loss}
    unvaried = set(methods(name)) if "/nfm/" in name else {"baseline"}
    assert set(config.strengths) == varied
    assert name in OWN or varied == set(methods(name)) - unvaried
    for values in config.strengths.values():
        assert list(values) == sorted(set(values))
        assert all(isinstance(value, float) and value > 0 for value in values)


@every_config
def test_losses_hold_known_stages_and_one_weight_each(name, arg):
    for loss in get(name, arg).losses.values():
        first, *rest = (re.match(r"\w+", stage.strip())[0] for stage in loss.split("|"))
        assert {first, *rest} <= set(REGISTRY)
        if name not in OWN:
            assert first in ("cross_entropy", "isda")
            weights = 0 if "/nfm/" in name else len(rest) + (first == "isda")
            assert loss.count("{strength}") == weights
        assert set(loss.format(strength=0.5)).isdisjoint("{}")


@every_config
def test_json_round_trip_keeps_everything_and_the_order(name, arg):
    config = get(name, arg)
    back = json.loads(config.to_json_best_effort())
    assert list(back["losses"]) == methods(name, arg)
    assert back == json.loads(json.dumps(config.to_dict()))


@every_config
def test_two_calls_share_nothing(name, arg):
    config = get(name, arg)
    first = next(iter(config.losses))
    config.losses[first] = "changed"
    assert get(name, arg).losses[first] != "changed"


@pytest.fixture
def random_data(monkeypatch):
    """Every data set is a few random images of its shape."""

    def load(name, data_dir, **options):
        image = np.random.default_rng(0).integers(0, 256, (1600, *SHAPES[name])).astype(np.uint8)
        split = {"image": image, "label": (np.arange(1600) % 10).astype(np.int32)}
        return Dataset(name, split, split, 10)

    class Opened:
        """As ImageNet is, of which no image is looked at."""

        classes, examples, scored, about = 1000, 1_281_167, "validation", ""
        test_examples, validation_examples, dense = 50_000, 0, False
        class_names = tuple(map(str, range(1000)))

        def __init__(self, name, data_dir, *, image_size, **options):
            self.shape = (image_size or 224, image_size or 224, 3)

    monkeypatch.setattr(sources, "load", load)
    monkeypatch.setattr(problem, "Streams", Opened)
    monkeypatch.setattr(networks, "Streams", Opened)


def narrow(config):
    """The same network, of few filters: its compilation and its step are the test's time."""
    if config.model in ("preact_resnet18", "wide_resnet18"):
        config.model = f"{config.model}(width=2)"
    return config


# The networks of Table 1, which are only tested on something else.
TESTED_ONLY = ("configs/nfm/figure5", "configs/nfm/figure6")
TRAINED = [name for name in CONFIGS if name not in (*TESTED_ONLY, *ISDA, *SIGN)]
TRAINED.append("configs/isda/table1")
# Table 2 has the schemes of Table 1; ResNet-50 takes long to trace.
FEW = {"configs/nfm/table2": ("NFM",), "configs/nfm/table3": ("NFM",)}
LONG = (
    "configs/digits_semi_supervised",
    "configs/mnist_semi_supervised",
    "configs/isda/table1",
    "configs/nfm/table1",
    "configs/nfm/table3",
    "configs/thesis/table4",
    *SIGN,
)
SHORT = (("configs/digits", ""), ("configs/thesis/table2", "smoke"))


def slow(*values, unless):
    """Values of a test that is slow with them, unless that is said not to be so."""
    return pytest.param(*values, marks=() if unless else pytest.mark.slow)


@pytest.mark.parametrize("name", [*TESTED_ONLY, "configs/nfm/table1", "configs/nfm/table2"])
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_perturbation_fits_the_network(name, arg, random_data):
    config = narrow(get(name, arg))
    config.train_sizes, config.validation_per_class = (5,), 1
    runs = plan(config.to_dict())
    of = problem.Problem(config.to_dict(), CLASSIFICATION)
    check_evaluations(of, runs, read_all(config.perturbations.to_dict()))


@pytest.mark.parametrize(
    "name",
    [slow(name, unless=name not in LONG) for name in (*TRAINED, "configs/thesis/table2:quick")],
)
def test_every_loss_fits_the_network(name, random_data):
    config = narrow(get(*name.split(":")))
    if config.data == "memory":
        config.train_sizes, config.seeds, config.validation_per_class = (5,), 1, 1
    runs = {run.method: run for run in plan(config.to_dict())}
    assert list(runs) == methods(name.split(":")[0])
    of = problem.Problem(config.to_dict(), CLASSIFICATION)
    check(of, [runs[method] for method in FEW.get(name, runs)])


@pytest.mark.parametrize(
    ("name", "arg"),
    [slow(*each, unless=each in SHORT) for each in itertools.product(IN_MEMORY, ("", "smoke"))],
)
def test_every_config_takes_a_step(name, arg, random_data, tmp_path):
    config = narrow(get(name, arg))
    config.train_sizes, config.batch_size, config.validation_per_class = (2,), 20, 1
    config.epochs, config.score_epochs, config.strategy = 1, 1, "map"
    if config.selection == "retrain":  # its first phase
        config.selection = "validation"
    baseline = [run for run in plan(config.to_dict()) if run.method == "baseline"]
    runs = baseline[: min(2, config.runs_at_once)]
    one = problem.Problem(config.to_dict(), CLASSIFICATION)
    ((_, group),) = groups.groups(one, runs, runs)
    settings = groups.settings(one, profile=False)
    training = Training(group, tmp_path, settings, Interruption(), tqdm(disable=True))
    scores, progress = training.run()
    assert group.steps == 1
    assert np.isfinite(progress.total).all()
    names = ("test_nll", "validation_accuracy")
    assert np.isfinite([[mine[name] for name in names] for mine in scores]).all()


@pytest.mark.parametrize("name", TABLES)
def test_quick_is_one_column_with_probes(name):
    config = get(f"configs/thesis/{name}", "quick")
    assert config.train_sizes == (50,)
    assert config.losses["hsfob-db2"].count("power=2, probes=2") == 1
    assert all(
        config.losses[m].count("probes=1") == 1 for m in ("jac", "fob", "hsfob", "hsfob-db1")
    )
    assert published(config) == published(get(f"configs/thesis/{name}")) != {}
    assert "exact Jacobian norms" in config.published_source
    assert "ours are estimated with random probes" in config.published_source


@pytest.mark.parametrize("name", CONFIGS)
def test_smoke_is_small_and_needs_no_download(name):
    config = get(name, "smoke")
    assert config.dataset == (MASKS if name in SEGMENTATION else "digits")
    assert not published(config)  # numbers on another data set are no comparison
    assert max(config.train_sizes) <= 10
    assert config.epochs <= 2
    assert config.seeds <= 2
    assert all(len(values) <= 2 for values in config.strengths.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_argument_is_an_error_that_names_the_known_one(name):
    with pytest.raises(ValueError, match=r"'smok'.*'smoke'"):
        get(name, "smok")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_docstring_has_the_command(name):
    module = importlib.import_module(name.replace("/", "."))
    door = "segment" if name in SEGMENTATION else "classify"
    assert f"python -m experiments.{door} --config={name}.py --workdir=runs/" in module.__doc__


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections calls it.
def test_overrides_from_the_command_line(monkeypatch):
    arguments = [
        "classify",
        f"--config={ROOT}/configs/thesis/table3.py:smoke",
        "--config.dataset=cifar10_jpeg",
        "--config.train_sizes=50,",
        "--config.strengths.db=1,10",
        "--config.losses.jac=cross_entropy | jacobian(weight=0.1)",
        "--config.strengths.jac=()",
        '--config.losses["hsfob-db1"]=cross_entropy | double_backprop(weight={strength})',
    ]
    monkeypatch.setattr("sys.argv", arguments)  # config_flags looks for the overrides there.
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    values(arguments)
    config = holder.value
    assert config.dataset == "cifar10_jpeg"
    assert config.train_sizes == (50,)
    runs = plan(config.to_dict())
    assert {repr(run.strength) for run in runs if run.method == "db"} == {"1.0", "10.0"}
    assert {run.strength for run in runs if run.method == "jac"} == {None}
    assert config.losses["hsfob-db1"] == "cross_entropy | double_backprop(weight={strength})"
    assert config.seeds == 2


@pytest.mark.parametrize(
    ("name", "dataset", "model"),
    [
        ("table2", "mnist", "small_cnn"),
        ("table3", "cifar10", "small_cnn"),
        ("table4", "cifar10", "thesis_resnet"),
    ],
)
def test_tables_follow_the_thesis(name, dataset, model):
    config = table(name)
    assert (config.dataset, config.model) == (dataset, model)
    assert (config.epochs, config.seeds, config.learning_rate) == (100, 10, 0.001)
    assert config.train_sizes == (50, 100, 200, 1000)
    assert all((min(v), max(v)) == (1e-6, 3.0) for v in config.strengths.values())
    assert config.published_seeds == 10
    assert f"Table {name[-1]}, " in config.published_source
    assert "best on the test images" in config.published_source
    assert "probes" not in config.published_source
    assert config.published_for == (dataset, model)
    assert config.seeds % config.runs_at_once == 0
    assert all(list(row) == ["50", "100", "200", "1000"] for row in config.published.values())


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("table2", ((92.273, 0.49), (95.010, 0.47), (96.725, 0.19), (98.378, 0.10))),
        ("table3", ((39.761, 0.78), (46.467, 0.60), (52.352, 0.83), (65.644, 0.65))),
        ("table4", ((36.599, 0.87), (42.156, 1.77), (49.245, 1.43), (71.968, 0.86))),
    ],
)
def test_the_printed_row_of_double_backprop(name, row):
    assert tuple(table(name).published.db.values()) == row


# Added up from the printed tables, over the eight methods.
@pytest.mark.parametrize(
    ("name", "means", "deviations"),
    [
        ("table2", (730.848, 755.415, 772.298, 786.247), (3.55, 3.17, 1.66, 0.74)),
        ("table3", (316.996, 369.113, 417.473, 513.516), (8.06, 5.95, 5.59, 4.45)),
        ("table4", (284.938, 319.211, 368.626, 542.388), (9.00, 12.10, 10.80, 9.09)),
    ],
)
def test_the_column_sums_of_the_printed_tables(name, means, deviations):
    columns = zip(*(row.values() for row in table(name).published.values()), strict=True)
    for column, mean, deviation in zip(columns, means, deviations, strict=True):
        assert sum(cell[0] for cell in column) == pytest.approx(mean, abs=1e-9)
        assert sum(cell[1] for cell in column) == pytest.approx(deviation, abs=1e-9)
