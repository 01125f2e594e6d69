"""The rows that a step sees of data in memory (memory.py, feeds.py).

Covers `task.py` too.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from experiments.data import joining
from experiments.data.sources import DataError, Dataset
from experiments.training.feeds import STEPS_PER_CALL, Member, rows_of_batches, spaced
from experiments.training.memory import Memory
from experiments.training.task import Rows

CLASSES, TRAIN, EXTRA, TESTS = 3, 30, 12, 7


def dataset(**changes: Any) -> Dataset:
    """Images that say their own number."""
    count = TRAIN + EXTRA
    image = np.arange(count, dtype=np.float32)[:, None, None, None]
    train = {"image": image, "label": (np.arange(count) % CLASSES).astype(np.int32)}
    image = 100 + np.arange(TESTS, dtype=np.float32)[:, None, None, None]
    test = {"image": image, "label": (np.arange(TESTS) % CLASSES).astype(np.int32)}
    parts = (range(TRAIN), range(TRAIN, count))
    return Dataset("numbers", train, test, CLASSES, parts=parts, **changes)


class Program:
    """Takes no steps, and keeps the rows."""

    runs_multiple, batch_multiple = 1, 4

    def init(self, objectives: Any, seeds: np.ndarray) -> Any:
        return None

    def advance(self, states: Any, objectives: Any, seeds: Any, rows: Rows, count: int) -> Any:
        self.rows, self.seeds = rows, seeds
        zeros = {"total": np.zeros(len(seeds))}
        return states, zeros, zeros

    def measure(self, states: Any, evaluation: Any, rows: Rows, stored: Any) -> Any:
        self.rows, self.stored = rows, stored
        flat = {"index": rows.index, "number": rows.number}
        return {name: x.reshape(len(x), -1) for name, x in flat.items()}


def fed(memory: Memory, seeds: tuple[int, ...] = (0, 1), size: int = 2, batch: int = 6) -> Any:
    program = Program()
    members = [Member(np.float32(0), seed, size) for seed in seeds]
    return program, memory.feed(program, members, batch)


def rows(memory: Memory, step: int, count: int, **options: Any) -> Rows:
    program, feed = fed(memory, **options)
    feed.advance(None, step, count)
    return program.rows


def test_each_part_of_a_data_set_has_its_share_of_every_batch():
    memory = Memory(dataset(), shares={"extra": 1 / 3})
    assert memory.counts(6) == (4, 2)
    assert memory.steps_per_epoch(2, 6) == 2  # 6 images, 4 a step
    found = rows(memory, 0, 5)
    assert found.index.shape == (2, STEPS_PER_CALL, 8)  # six, filled up for four devices
    assert found.unlabeled is None
    index, weight = found.index[:, :5], found.weight[:, :5]
    assert (index[..., :4] < TRAIN).all()
    assert ((index[..., 4:6] >= TRAIN) & (index[..., 4:6] < TRAIN + EXTRA)).all()
    assert (weight[..., 4:6] == 1).all()
    assert (weight[..., 6:] == 0).all()
    # Each of the twelve once in six steps, in an order of each run's own.
    drawn = rows(memory, 0, 6).index[:, :6, 4:6].reshape(2, -1)
    assert np.array_equal(np.sort(drawn), [np.arange(TRAIN, TRAIN + EXTRA)] * 2)
    assert not np.array_equal(*drawn)


def test_rows_follow_from_the_step_alone():
    memory = Memory(dataset(), held_out=1, shares={"extra": 0.5}, unlabeled=5)
    whole, later = rows(memory, 0, 9), rows(memory, 6, 3)
    for a, b in ((whole, later), (whole.unlabeled, later.unlabeled)):
        np.testing.assert_array_equal(a.index[:, 6:9], b.index[:, :3])


@pytest.mark.parametrize("both", [False, True])
def test_the_second_stream_holds_what_is_not_labelled_and_never_what_is_held_out(both):
    memory = Memory(dataset(), 1, unlabeled=8, unlabeled_includes_labeled=both, shares={"e": 0.5})
    found = rows(memory, 0, 20, seeds=(3,))
    train, held_out = memory.indices(2, 3)
    pool = set(found.unlabeled.index[0].ravel().tolist())
    expected = set(range(TRAIN)) - set(held_out.tolist()) - (set() if both else {*train.tolist()})
    assert pool == expected
    assert found.unlabeled.index.shape == (1, STEPS_PER_CALL, 8)
    assert (found.unlabeled.weight == 1).all()


def test_epochs_of_both_streams_have_every_image_once_and_labelled_classes_are_balanced():
    """5 steps of 6 are an epoch of the 30, and 2 of 4 one of the labelled 6, filled up by 2."""
    memory = Memory(dataset(), unlabeled=6, unlabeled_includes_labeled=True, shares={"e": 1 / 3})
    found = rows(memory, 0, 10, seeds=(3,))
    epochs = found.unlabeled.index[0, :10, :6].reshape(2, -1)
    assert np.array_equal(np.sort(epochs), [np.arange(TRAIN)] * 2)
    assert not np.array_equal(*epochs)
    index, weight = (x[0, :10, :4].reshape(5, -1) for x in (found.index, found.weight))
    for order, counted in zip(index, weight, strict=True):
        assert sorted(order[counted > 0]) == sorted(memory.indices(2, 3)[0])
        assert np.bincount(order % CLASSES, counted).tolist() == [2] * CLASSES


def test_where_all_is_labelled_there_is_no_second_stream():
    with pytest.raises(ValueError, match="All 30 training images are trained on with their labels"):
        Memory(dataset(), unlabeled=4).unlabeled_indices(0, 0)


def test_draws_on_test_examples_go_by_their_place_among_them():
    program, feed = fed(Memory(dataset(), shares={"extra": 0.5}))
    found = feed.measure(None, None)
    np.testing.assert_array_equal(found["number"], [np.arange(TESTS)] * 2)
    np.testing.assert_array_equal(found["index"], [TRAIN + EXTRA + np.arange(TESTS)] * 2)
    few = feed.measure(None, None, examples=3)
    np.testing.assert_array_equal(few["number"], [[0, 2, 4]] * 2)
    other = {"image": np.zeros((5, 1, 1, 1)), "label": np.zeros(5, np.int32)}
    found = feed.measure(None, None, stored=other)
    assert program.stored is other
    np.testing.assert_array_equal(found["index"], [np.arange(5)] * 2)


def test_held_out_examples_are_each_runs_own():
    memory = Memory(dataset(), 2, shares={"extra": 0.5})
    _, feed = fed(memory)
    found = feed.measure_held_out(None, None)
    expected = [memory.indices(2, seed)[1] for seed in (0, 1)]
    np.testing.assert_array_equal(found["index"], expected)
    _, feed = fed(Memory(dataset(), shares={"extra": 0.5}))
    assert feed.measure_held_out(None, None) is None


def test_the_data_sets_own_validation_split_is_measured_where_none_is_held_out():
    image = np.zeros((4, 1, 1, 1), np.float32)
    own = {"image": image, "label": np.zeros(4, np.int32)}
    memory = Memory(dataset(validation=own), shares={"extra": 0.5})
    assert memory.holds_out
    found = fed(memory)[1].measure_held_out(None, None)
    np.testing.assert_array_equal(found["index"], [TRAIN + EXTRA + TESTS + np.arange(4)] * 2)
    np.testing.assert_array_equal(found["number"], [np.arange(4)] * 2)
    assert len(memory.tests) == TESTS
    held_out = Memory(dataset(validation=own), held_out=1)
    assert held_out.validation is None
    assert len(held_out.stored["label"]) == TRAIN + EXTRA + TESTS


@pytest.mark.parametrize("seed", [0, 7])
def test_what_is_held_out_may_be_among_the_examples_of_a_size(seed):
    memory, whole = Memory(dataset(), 2, included=True), Memory(dataset())
    train, held_out = memory.indices(5, seed)
    assert sorted([*train, *held_out]) == sorted(whole.indices(5, seed)[0])
    for part, count in ((train, 3), (held_out, 2)):
        assert np.bincount(part % CLASSES).tolist() == [count] * CLASSES
    # Of all examples they are what they always were.
    expected = Memory(dataset(), 2).indices(0, seed)
    for mine, theirs in zip(memory.indices(0, seed), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert memory.steps_per_epoch(5, 4) == 3  # 9 examples
    assert memory.steps_per_epoch(0, 4) == 6  # 24


def unbalanced(more: int = 0) -> Dataset:
    """Eight examples of class 0, two of class 1; then others of class 1."""
    label = np.array([0] * 8 + [1] * (2 + more), np.int32)
    image = np.arange(10 + more, dtype=np.float32)[:, None, None, None]
    parts = (range(10), range(10, 10 + more)) if more else ()
    split = {"image": image, "label": label}
    return Dataset("few", split, split, 2, parts=parts)


def test_classes_have_their_shares_of_what_is_trained_on() -> None:
    assert Memory(unbalanced()).class_shares(0, 4).tolist() == [0.8, 0.2]
    shares = Memory(unbalanced(3), shares={"extra": 0.5}).class_shares(0, 4)
    assert shares.tolist() == [0.4, 0.6]
    assert Memory(dataset(), shares={"e": 0.5}).class_shares(2, 6).tolist() == [1 / 3] * 3


def test_balanced_rows_have_all_classes_equally_often_whatever_the_step() -> None:
    data = unbalanced()
    memory = Memory(data, balanced=True)
    found = rows(memory, 0, 5, size=0, batch=4)
    label = data.train["label"][found.index[:, :5]]
    assert (label.sum(-1) == 2).all()
    assert (found.weight[:, :5] == 1).all()
    later = rows(memory, 3, 2, size=0, batch=4)
    np.testing.assert_array_equal(later.index[:, :2], found.index[:, 3:5])


def test_dense_labels_are_of_one_stratum():
    split = {"image": np.zeros((9, 2, 2, 1), np.uint8), "label": np.zeros((9, 2, 2), np.int32)}
    memory = Memory(Dataset("dense", split, split, CLASSES), held_out=2)
    train, held_out = memory.indices(0, 0)
    assert len(train) == 7
    assert sorted([*train, *held_out]) == list(range(9))
    assert memory.steps_per_epoch(0, 4) == 2


@pytest.mark.parametrize(("size", "multiple", "rows"), [(7, 1, 7), (7, 4, 8), (900, 8, 256)])
def test_examples_are_measured_in_batches_that_devices_divide(size, multiple, rows):
    assert rows_of_batches(size, multiple) == rows


def test_spaced_numbers_are_evenly_spaced():
    assert spaced(10, 3).tolist() == [0, 3, 6]
    assert spaced(3, 0).tolist() == spaced(3, 5).tolist() == [0, 1, 2]


@pytest.mark.parametrize("absent", range(CLASSES))
def test_a_class_without_training_images_is_named(absent):
    whole = dataset()
    kept = whole.train["label"] != absent
    train = {name: x[kept] for name, x in whole.train.items()}
    with pytest.raises(DataError, match=f"The class '{absent}' of 'numbers' has no training im"):
        Memory(Dataset("numbers", train, whole.test, CLASSES))


def test_labels_may_be_unbalanced():
    label = np.array([0] * 9 + [1] * 2 + [2] * 3, np.int32)
    split = {"image": np.zeros((14, 1, 1, 1), np.float32), "label": label}
    memory = Memory(Dataset("few", split, split, CLASSES, ("cat", "dog", "owl")), held_out=1)
    train, held_out = memory.indices(0, seed=0)
    assert np.bincount(label[train]).tolist() == [8, 1, 2]
    assert np.bincount(label[held_out]).tolist() == [1, 1, 1]
    assert memory.steps_per_epoch(0, batch=4) == 3  # 11 images
    assert memory.steps_per_epoch(1, batch=4) == 1
    with pytest.raises(ValueError, match=r"Class 'dog' has 2 examples, but 3 of each .* fewer"):
        memory.indices(2, seed=0)


def test_the_runs_of_a_seed_see_its_own_part_beside_what_all_see() -> None:
    """Parts of 4 for all, for seed 0 and for seed 1; of a batch of 6 two are of either kind."""
    count = TRAIN + EXTRA
    thirds = tuple(range(TRAIN + i, TRAIN + i + 4) for i in (0, 4, 8))
    whole = dataclasses.replace(dataset(), parts=(range(TRAIN), *thirds))
    owners: list[int | None] = [None, 0, 1]
    memory = Memory(whole, shares={"all": 1 / 3, "own{seed}": 1 / 3}, owners=owners)
    found = rows(memory, 0, 5).index[:, :5, :6]
    for seed in (0, 1):
        of_all, own = found[seed, :, 2:4], found[seed, :, 4:6]
        assert set(of_all.flat) == set(thirds[0])
        assert set(own.flat) == set(thirds[1 + seed])
    assert (found[..., :2] < TRAIN).all()
    assert found.max() < count
    # Of the parts that one run sees, here two of four examples each.
    memory = Memory(whole, shares={"all": 0.5, "own{seed}": 0.25}, owners=owners)
    label = whole.train["label"]
    each = [np.bincount(label[np.asarray(part)], minlength=CLASSES) / 4 for part in thirds[:2]]
    expected = 0.25 / CLASSES + 0.5 * each[0] + 0.25 * each[1]
    np.testing.assert_allclose(memory.class_shares(0, 8), expected)


def with_copies(held_out: int = 0, seeds: tuple[int | None, ...] = (None,), **given: Any) -> Memory:
    """Thirty images, and two copies of each for every seed."""
    whole = dataset()
    own = {name: x[:TRAIN] for name, x in whole.train.items()}
    of = np.repeat(np.arange(TRAIN), 2)
    split = {name: x[of] for name, x in own.items()}
    first = Dataset("numbers", own, whole.test, CLASSES)
    copies = Dataset("copies", split, whole.test, CLASSES, source=of)
    joined = joining.add(first, [(copies, seed) for seed in seeds])
    return Memory(joined, held_out=held_out, **given)


@pytest.mark.parametrize("size", [0, 3])
def test_exactly_the_copies_of_what_is_trained_on_come_with_it(size: int) -> None:
    memory = with_copies(held_out=2)
    train, held_out = memory.indices(size, seed=1)
    own = train[train < TRAIN]
    assert len(own) == CLASSES * (size or 8)
    assert len(train) == 3 * len(own)
    copies = (train[train >= TRAIN] - TRAIN) // 2
    np.testing.assert_array_equal(np.sort(copies), np.sort(np.repeat(own, 2)))
    assert not set(copies) & set(held_out)
    assert memory.steps_per_epoch(size, 6) == -(-len(train) // 6)
    plain, apart = Memory(dataset(), held_out=2, shares={"extra": 0.5}).indices(size, seed=1)
    np.testing.assert_array_equal(own, plain)
    np.testing.assert_array_equal(held_out, apart)


def test_an_epoch_has_each_original_and_each_copy_once() -> None:
    memory = with_copies()
    found = rows(memory, 0, 15, seeds=(0,), size=0).index[0, :15, :6]
    assert memory.steps_per_epoch(0, 6) == 15
    np.testing.assert_array_equal(np.sort(found.ravel()), np.arange(3 * TRAIN))


def test_with_equal_updates_an_epoch_is_as_long_as_without_copies() -> None:
    memory = with_copies(equal_updates=True)
    assert memory.steps_per_epoch(0, 6) == 5
    seen = rows(memory, 0, 15, seeds=(0,), size=0).index[0, :15, :6]
    np.testing.assert_array_equal(np.sort(seen.ravel()), np.arange(3 * TRAIN))


def test_each_seed_sees_its_own_copies() -> None:
    memory = with_copies(seeds=(0, 1))
    for seed in (0, 1):
        train, _ = memory.indices(0, seed)
        begin = TRAIN + 2 * TRAIN * seed
        np.testing.assert_array_equal(np.sort(train[TRAIN:]), np.arange(begin, begin + 2 * TRAIN))
    assert memory.steps_per_epoch(0, 6) == 15


def test_copies_count_in_the_shares_of_classes_and_may_be_drawn_evenly() -> None:
    memory = with_copies(held_out=2, balanced=True)
    np.testing.assert_allclose(memory.class_shares(0, 6), np.full(CLASSES, 1 / CLASSES))
    train, _ = memory.indices(0, seed=0)
    drawn = memory.drawn(train, 9, 0, seed=0)
    assert np.bincount(memory.stored["label"][drawn]).tolist() == [3, 3, 3]
    assert (drawn >= TRAIN).any()
