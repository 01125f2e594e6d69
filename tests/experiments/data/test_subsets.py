"""Subsets are balanced, disjoint, nested and drawn by seed; epochs visit everyone once."""

import numpy as np
import pytest

from experiments.data.subsets import (
    balanced_batches,
    balanced_indices,
    endless_batches,
    endless_order,
    epoch_batches,
    split_indices,
    unlabeled_indices,
)

LABEL = np.random.default_rng(7).permutation(np.repeat(np.arange(5), [20, 25, 30, 22, 40]))

DRAW = [2, 15, 20, 39, 36, 19, 32, 21]
ORDER = [4, 2, 0, 3, 6, 5, 1, 7]
ENDLESS = [1, 2, 4, 6, 3, 5, 0, 7]


@pytest.mark.parametrize("per_class", [0, 1, 7, 20])
def test_balanced_without_replacement(per_class):
    index = balanced_indices(LABEL, per_class, seed=3)
    assert index.dtype == np.int32
    assert index.shape == (5 * per_class,)
    assert len(set(index.tolist())) == 5 * per_class
    np.testing.assert_array_equal(np.bincount(LABEL[index], minlength=5), per_class)
    np.testing.assert_array_equal(LABEL[index], np.tile(np.arange(5), per_class))


def test_equal_seeds_agree_and_others_do_not():
    draws = [balanced_indices(LABEL, 10, seed) for seed in (0, 1, 2, 3)]
    np.testing.assert_array_equal(draws[0], balanced_indices(LABEL, 10, seed=0))
    assert len({tuple(sorted(draw)) for draw in draws}) == 4


def test_a_numpy_that_draws_otherwise_is_noticed():
    # numpy does not promise the streams of its Generator, but our tables depend on them.
    assert balanced_indices(np.arange(40) % 2, 4, seed=0).tolist() == DRAW
    assert epoch_batches(np.arange(8), 8, epoch=1, seed=0)[0].tolist() == [ORDER]
    assert endless_batches(np.arange(8), 8, step=1, seed=0).tolist() == ENDLESS


def test_every_member_is_as_likely():
    label = np.zeros(10, int)
    counts = np.bincount(
        np.concatenate([balanced_indices(label, 3, seed) for seed in range(2000)]), minlength=10
    )
    # Each is drawn with probability 0.3: standard error 20.5, and five of them allowed.
    np.testing.assert_allclose(counts, 600, atol=103)


def test_train_and_validation_are_disjoint_and_balanced():
    train, validation = split_indices(LABEL, 12, 8, seed=1)
    assert not set(train) & set(validation)
    np.testing.assert_array_equal(np.bincount(LABEL[train]), 12)
    np.testing.assert_array_equal(np.bincount(LABEL[validation]), 8)


def test_neither_draw_depends_on_the_others_size():
    train, validation = split_indices(LABEL, 12, 8, seed=1)
    more, fewer = split_indices(LABEL, 15, 5, seed=1)
    np.testing.assert_array_equal(train, more[: train.size])
    np.testing.assert_array_equal(fewer, validation[: fewer.size])
    np.testing.assert_array_equal(train, balanced_indices(LABEL, 12, seed=1))
    assert split_indices(LABEL, 12, 0, seed=1)[1].shape == (0,)


@pytest.mark.parametrize(("train", "validation"), [(21, 0), (15, 6)])
def test_a_class_with_too_few(train, validation):
    with pytest.raises(ValueError, match="Class 0 has 20 examples, but 21 of each class"):
        split_indices(LABEL, train, validation, seed=0)


def test_a_class_that_is_absent():
    with pytest.raises(ValueError, match="Class 1 has 0 examples, but 1 of"):
        balanced_indices(np.array([0, 2]), 1, seed=0)


def test_a_class_with_too_few_is_named():
    label = np.array([0, 0, 1])
    with pytest.raises(ValueError, match="Class 'dog' has 1 examples, but 2 of each class"):
        split_indices(label, 1, 1, 0, ("cat", "dog"))


def test_balanced_batches_have_all_classes_equally_often_and_every_example_in_turn():
    label = np.array([0] * 7 + [2] * 2 + [3])
    indices = np.arange(10, 20)
    batches = [balanced_batches(indices, label, 4, step, seed=1) for step in range(21)]
    drawn = np.concatenate(batches)
    assert np.bincount(label[drawn - 10]).tolist() == [28, 0, 28, 28]
    # Any three in a row that begin a round are one of each class.
    assert all(len(set(label[three - 10])) == 3 for three in drawn.reshape(-1, 3))
    assert np.bincount(drawn - 10)[:9].tolist() == [4] * 7 + [14] * 2
    assert len({tuple(label[three - 10]) for three in drawn.reshape(-1, 3)}) > 1
    assert not np.array_equal(drawn[:4], balanced_batches(indices, label, 4, 0, seed=2))


def test_negative_sizes():
    with pytest.raises(ValueError, match="must not be negative, but are 2 for training and -1"):
        split_indices(LABEL, 2, -1, seed=0)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 41])
@pytest.mark.parametrize("batch_size", [1, 8, 16])
def test_an_epoch_has_every_example_exactly_once(count, batch_size):
    indices = 100 + np.arange(count)
    index, weight = epoch_batches(indices, batch_size, epoch=4, seed=2)
    assert index.shape == weight.shape == (-(-count // batch_size), batch_size)
    assert (index.dtype, weight.dtype) == (np.int32, np.float32)
    assert sorted(index[weight == 1]) == indices.tolist()
    assert set(index[weight == 0]) <= set(indices)
    assert weight.sum() == count
    assert (np.diff(weight.ravel()) <= 0).all()  # the filling comes last


def test_the_filling_is_the_epochs_beginning():
    index, _ = epoch_batches(np.arange(10), 4, epoch=0, seed=0)
    np.testing.assert_array_equal(index.ravel()[10:], index.ravel()[:2])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(epoch_batches(np.arange(50), 50, epoch, seed)[0].ravel())
        for epoch in range(4)
        for seed in range(4)
    }
    assert len(orders) == 16
    again = epoch_batches(np.arange(50), 50, epoch=1, seed=2)[0]
    assert tuple(again.ravel()) in orders


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (4, 0)])
def test_no_examples_or_no_places(count, batch_size):
    with pytest.raises(ValueError, match=f"{count} examples for batches of {batch_size}"):
        epoch_batches(np.arange(count), batch_size, epoch=0, seed=0)


# The second stream.


@pytest.mark.parametrize("include_labeled", [False, True])
def test_images_without_labels_are_all_but_those_held_out(include_labeled):
    train, validation = split_indices(LABEL, 12, 8, seed=1)
    pool = unlabeled_indices(len(LABEL), train, validation, include_labeled=include_labeled)
    expected = set(range(len(LABEL))) - set(validation.tolist())
    assert pool.tolist() == sorted(expected - (set() if include_labeled else set(train.tolist())))
    assert pool.dtype == np.int32


def test_where_none_is_left_that_is_said():
    labeled, held_out = np.arange(3), np.array([3])
    with pytest.raises(ValueError, match=r"All 4 training images .* train on fewer, or include"):
        unlabeled_indices(4, labeled, held_out, include_labeled=False)
    assert unlabeled_indices(4, labeled, held_out, include_labeled=True).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 41])
@pytest.mark.parametrize("batch_size", [1, 8, 16])
def test_batches_run_on_and_every_epoch_has_every_example_once(count, batch_size):
    indices = 100 + 3 * np.arange(count)
    steps = -(-3 * count // batch_size)
    batches = [endless_batches(indices, batch_size, step, seed=2) for step in range(steps)]
    assert {(batch.shape, batch.dtype.name) for batch in batches} == {((batch_size,), "int32")}
    epochs = np.concatenate(batches)[: 3 * count].reshape(3, count)
    for epoch, order in enumerate(epochs):
        assert sorted(order) == indices.tolist()
        np.testing.assert_array_equal(order, indices[endless_order(count, epoch, seed=2)])


def test_epochs_seeds_and_streams_have_orders_of_their_own():
    orders = {
        tuple(endless_batches(np.arange(50), 50, step, seed, stream))
        for step in range(3)
        for seed in range(3)
        for stream in range(3)
    }
    assert len(orders) == 27
    assert not orders & {tuple(epoch_batches(np.arange(50), 50, e, 0)[0][0]) for e in range(3)}


def test_a_late_step_needs_none_before_it():
    late = endless_batches(np.arange(7), 3, 7 * 10**9, seed=0)
    np.testing.assert_array_equal(late, endless_order(7, 3 * 10**9, seed=0)[:3])


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (4, 0)])
def test_no_examples_or_no_places_of_an_endless_stream(count, batch_size):
    with pytest.raises(ValueError, match=f"{count} examples for batches of {batch_size}"):
        endless_batches(np.arange(count), batch_size, 0, seed=0)
