"""The benchmark runs, and its numbers are what they say they are.

Covers `augment.py`, `experiments/benchmark/isda.py`, `timing.py` and `transforms.py` too.
"""

import itertools
import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax as rj
from experiments.benchmark import augment, isda, tables, timing, transforms
from experiments.training.task import Rows, gather


class Network(nnx.Module):
    """Two matrix products, which are soon compiled."""

    def __init__(self, name, shape, classes, rngs, axis_name=None):
        self.hidden = nnx.Linear(math.prod(shape), 16, rngs=rngs)
        self.head = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.tanh(self.hidden(x.reshape(len(x), -1))))


NOISE = "cross_entropy | noise_injection(sigma=1)"


@pytest.mark.slow
def test_a_quick_run_has_a_row_for_each_transform_case_and_strategy(monkeypatch):
    monkeypatch.setattr(
        transforms, "IN_STAGES", {"noise": "cross_entropy | noise_injection(sigma=1)"}
    )
    monkeypatch.setattr(timing.networks.models, "create", Network)
    result = {}
    for part in tables.of_losses(quick=True):
        result |= part
    plain, double, isda = result["transforms"]["rows"]
    names = [row["transform"] for row in (plain, double, isda)]
    assert names == ["plain", "double_backprop", "isda"]
    assert plain["flops"] == plain["memory"] == plain["time"] == 1
    # Each product has two derivatives, but none with respect to the image in the plain step.
    hidden, head = 64 * 16, 16 * 10
    expected = (5 * hidden + 6 * head) / (2 * hidden + 3 * head)
    assert double["flops"] == pytest.approx(expected)
    assert isda["loss"] == "isda(strength=0.5)"
    assert double["time"] > 0
    assert [row["transform"] for row in result["resnet"]["rows"]] == ["plain", "noise"]
    assert all(row["compilation"] > 0 for row in result["resnet"]["rows"])
    # The teacher goes forward; the plain step is of as many images, all with labels.
    few, taught = result["semi_supervised"]["rows"]
    assert (few["flops"], taught["transform"]) == (1, "mean_teacher")
    hidden = 12 * 12 * 3 * 16
    assert taught["flops"] == pytest.approx(1 + 6 / 8 * (hidden + head) / (2 * hidden + 3 * head))
    kinds = [row["covariance"] for row in result["isda"]["rows"]]
    assert kinds == ["full", "diagonal", "shared", "low_rank"]
    assert [row["stage"] for row in result["augment"]["rows"]] == list(augment.QUICK.stages)
    assert all(row["ms"] > 0 for row in result["augment"]["rows"])
    rows = result["sweeps"]["rows"]
    assert [row["strategy"] for row in rows] == ["vmap", "map", "sharded"]
    for row in rows:
        assert row["gain"] == pytest.approx(row["throughput"] / row["one_at_a_time"])
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("expression", "model"),
    [
        *((expression, "small_cnn") for expression in transforms.TRANSFORMS.values()),
        *(
            (expression, transforms.resnet(True).model)
            for expression in transforms.IN_STAGES.values()
        ),
        *((expression, "cnn13(width=2)") for expression in transforms.UNLABELED.values()),
    ],
)
def test_all_transforms_can_be_traced(expression, model):
    task, data = transforms.random_problem(transforms.Setting((32, 32, 3), 4, 1, 1, model=model))
    loss = rj.parse(expression)

    def step(index):
        state = task.init(jnp.uint32(0), loss)
        rows = Rows(index, jnp.ones(4))
        batch = task.batch(gather(data, rows._replace(unlabeled=rows)))
        return task.step(state, loss, batch, jnp.uint32(0))

    _, metrics = jax.eval_shape(step, jnp.zeros(4, jnp.int32))
    assert metrics["total"].shape == ()


def test_timings_are_taken_in_turn_and_the_ratio_is_the_median_of_pairs():
    order = []
    first = itertools.chain([9.0], [1.0, 2.0, 4.0])
    second = itertools.chain([9.0], [2.0, 8.0, 12.0])

    def taking(name, times):
        def take():
            order.append(name)
            return next(times)

        return take

    assert timing.paired(taking("a", first), taking("b", second), 3) == (2.0, 3.0)
    assert order == ["a", "b"] * 4


def test_the_processor_is_named(monkeypatch):
    lines = "processor\t: 0\nmodel name\t: A Chip @ 3 GHz\nflags\t\t: fpu avx avx2 bmi2\n"
    monkeypatch.setattr(timing.Path, "exists", lambda path: True)
    monkeypatch.setattr(timing.Path, "read_text", lambda path: lines)
    assert timing.processor() == "A Chip @ 3 GHz avx2"
    monkeypatch.setattr(timing.Path, "exists", lambda path: False)
    monkeypatch.setattr(timing.platform, "processor", lambda: "arm")
    assert timing.processor() == "arm"


def test_what_was_measured_before_a_stop_is_kept(tmp_path, monkeypatch, capsys):
    row = {"batch": 1, "classes": 2, "features": 3, "covariance": "full"}
    rows = {"rows": [row | {"ms": 1.5, "megabytes": 2.0, "gflop": 3.0}]}

    def parts(quick):
        assert quick
        yield {"isda": rows}
        raise KeyboardInterrupt

    output = tmp_path / "new" / "benchmark.json"
    monkeypatch.setattr(tables, "of_losses", parts)
    monkeypatch.setattr(tables.devices, "environment", lambda: {"device": "a kettle"})
    monkeypatch.setattr(tables, "processor", lambda: "a spoon")
    monkeypatch.setattr(tables, "OUTPUT", SimpleNamespace(value=str(output)))
    monkeypatch.setattr(tables, "QUICK", SimpleNamespace(value=True))
    monkeypatch.setattr(tables, "AGAINST", SimpleNamespace(value=None))
    with pytest.raises(KeyboardInterrupt):
        tables.main()
    assert json.loads(output.read_text()) == {
        "environment": {"processor": "a spoon", "device": "a kettle"},
        "isda": rows,
    }
    said = capsys.readouterr().out
    assert "processor: a spoon; device: a kettle" in said
    assert "| 1 | 2 | 3 | full | 1.5 | 2 | 3.00 |" in said


@pytest.mark.parametrize(
    "name", ["transforms", "resnet", "semi_supervised", "sweeps", *tables.KNOWN_TABLES]
)
def test_each_table_has_its_heading(name):
    setting = transforms.Setting((8, 8, 1), 8, 2, 3, unlabeled=3)._asdict()
    result = {"setting": setting, "default": "map", "loss": "x", "rows": []}
    heading, columns = tables.text(name, result).rsplit(":\n\n", 1)
    assert heading
    assert columns.startswith("| ")


def test_the_table_is_markdown():
    text = tables.table([{"x": "a", "y": 1.234}], {"x": "s", "y": ".1f"})
    assert text == "| x | y |\n| --- | --- |\n| a | 1.2 |"


@pytest.mark.parametrize(("features", "formed"), [(24, 1), (12, 2)])
def test_isda_counts_the_products_of_its_formulas(features, formed):
    """The layer, the point amid the features, the means, the scatters piece by piece, the tables.

    The layer has its product and two derivatives; a class's table `(w_j - w_c)' Sigma (w_j - w_c)`
    takes one product, which is kept for the derivative where features are three times the classes;
    where not, it is formed again.
    """
    case = isda.Case(16, 5, features, "full")
    b, c, a = case.batch, case.classes, case.features
    (row,) = isda.costs((case,), rounds=1)
    layer, amid, means = 3 * 2 * b * c * a, 2 * b * a, 2 * b * c * a
    scatters = isda.most_pieces(b, c) * 2 * (16 + 1) * a * a
    tables = 2 * c * c * a * a * formed
    assert row["gflop"] * 1e9 == pytest.approx(layer + amid + means + scatters + tables)


def test_augmentation_is_counted_by_the_thousand_images():
    """What a flip reads and writes, however many images there are: each of its pixels, twice."""
    setting = augment.Setting((8, 8, 3), 20, 1, ("random_flip",))
    program = augment.Program("random_flip", setting)
    image = 8 * 8 * 3 * 4 * 1000 / 1e9
    assert 2 * image < program.gigabytes < 5 * image
    assert program.gflop < 1e-3
    assert program.milliseconds() > 0


def test_isda_never_holds_more_than_its_state_and_the_tables():
    """Neither a matrix for each example nor a feature for each example and class."""
    case = isda.Case(64, 40, 48, "full")
    (row,) = isda.costs((case,), rounds=1)
    b, c, a = case.batch, case.classes, case.features
    floats = row["megabytes"] * 1e6 / 4
    assert c * a * a < floats < c * a * a + b * c * a
    (row,) = isda.costs((case._replace(covariance="diagonal"),), rounds=1)
    assert row["megabytes"] * 1e6 / 4 < b * c * a


@pytest.mark.parametrize(("batch", "classes"), [(16, 1), (33, 4), (256, 1000), (7, 3)])
def test_no_labels_need_more_pieces_than_the_bound(batch, classes):
    generator = np.random.default_rng(0)
    for skew in (0.01, 0.3, 100.0):
        share = generator.dirichlet(np.full(classes, skew))
        count = generator.multinomial(batch, share)
        pieces = np.sum(-(-count // 16))
        assert pieces <= isda.most_pieces(batch, classes)
