"""What training costs besides its steps: rows are whole, and bytes are those of the arrays.

Covers `experiments/benchmark/streams.py` too.
"""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.benchmark import against, communication, streams, tables, training
from experiments.benchmark.communication import Case
from experiments.benchmark.timing import random_task
from experiments.data.streams import Streams

TINY = (4, 4, 1)


@pytest.fixture(scope="module")
def quick():
    return {name: costs for part in tables.of_training(True) for name, costs in part.items()}


@pytest.mark.slow
def test_a_quick_run_has_rows_that_can_be_shown(quick):
    assert quick.keys() | against.TABLES.keys() == tables.TRAINING_TABLES.keys()
    json.dumps(quick, allow_nan=False)
    for name, costs in quick.items():
        text = tables.table(costs["rows"], tables.TRAINING_TABLES[name][1])
        assert len(text.splitlines()) == 2 + len(costs["rows"]) > 2


@pytest.mark.slow
def test_a_checkpoint_has_the_parameters_and_adams_two_copies(quick):
    (row,) = quick["checkpoints"]["rows"]
    state = 4 * 3 * parameters(TINY)
    assert state < row["megabytes"] * 1e6 < state + 20_000
    assert min(row["step_ms"], row["blocking_ms"], row["cpu_ms"], row["cpu_percent"]) > 0
    assert row["interval"] == max(np.ceil(row["percent"] * 100 / 2), 1)


def test_both_ways_take_the_same_steps():
    task = random_task("small_cnn", TINY)
    programs = [training.Program(task, 8, steps=2) for _ in range(2)]
    assert programs[0].call() > 0
    assert programs[1].one_by_one() > 0
    assert programs[0].state.step == programs[1].state.step == 2
    for a, b in zip(*(jax.tree.leaves(p.state.params) for p in programs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def parameters(shape):
    """Numbers in the small network for images of that shape and ten classes."""
    height, width, channels = shape
    kernels = 9 * (channels * 32 + 32 * 64 + 64 * 64) + 64 * (height // 4) * (width // 4) * 64
    return kernels + 64 * 10 + 32 + 64 + 64 + 64 + 10


@pytest.mark.parametrize("loss", ["cross entropy", "ISDA"])
def test_gradients_features_and_labels_are_sent_and_the_bound_has_the_statistics(loss):
    row = communication.row(Case("small_cnn", TINY, 8, loss, "shard_map"))
    sent, bound = row["bytes"], row["bound_megabytes"] * 1e6
    isda, scalars = loss == "ISDA", communication.SCALARS
    assert row["devices"] == 8
    assert 0 <= sent["all-reduce"] - 4 * parameters(TINY) <= scalars
    gathered = 4 * 8 * (64 + 10) * isda
    assert row["megabytes"] * 1e6 == pytest.approx(sent["all-reduce"] + gathered)
    class_ = 4 * (64 * 64 + 64 + 1)  # covariance, mean, examples
    step = 4  # the loss state's own, of which there are eight tenths too
    touched = 0.8 * (10 * class_ * isda + step)
    assert bound == pytest.approx(4 * parameters(TINY) + scalars + touched)
    assert row["ratio"] == pytest.approx(row["megabytes"] * 1e6 / bound)
    assert row["ratio"] <= 1


@pytest.mark.slow
def test_other_numbers_of_devices_are_asked_for_in_processes_of_their_own(quick):
    rows = quick["communication"]["rows"]
    assert [row["devices"] for row in rows] == [2]
    assert all(row["bytes"]["all-reduce"] >= 4 * parameters(TINY) for row in rows)


def test_the_stream_is_of_jpegs_of_imagenets_size(tmp_path):
    encoded = streams.jpeg(0)
    assert Image.open(io.BytesIO(encoded)).size == (500, 375)
    assert 80_000 < len(encoded) < 110_000
    assert encoded != streams.jpeg(1)
    streams.prepare(tmp_path, 3)
    opened = Streams("smooth_noise", tmp_path, image_size=8)
    assert (opened.examples, opened.classes) == (3, 1000)


@pytest.mark.slow
def test_streams_are_timed_with_each_number_of_workers(quick):
    rows = quick["streams"]["rows"]
    assert [row["workers"] for row in rows] == [0, 1]
    for row in rows:
        assert row["times_the_need"] * row["step_images_per_second"] == pytest.approx(
            row["images_per_second"]
        )
