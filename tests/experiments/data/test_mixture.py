"""Several data sets as one: their labels, their pixels, and their places in a batch."""

import dataclasses

import numpy as np
import pytest

from experiments.data.dataset import DataError, Dataset
from experiments.data.mixture import join, mixed_counts

RNG = np.random.default_rng(0)
NAMES = ("cat", "dog", "owl")


def made(name, count, names=NAMES, floats=False, masks=False, shape=(4, 5, 3)):
    def split(n):
        image = RNG.random((n, *shape), np.float32)
        label = RNG.integers(0, len(names or NAMES), (n, *shape[:2]) if masks else n)
        return {
            "image": image if floats else (image * 256).astype(np.uint8),
            "label": label.astype(np.uint8 if masks else np.int32),
        }

    return Dataset(name, split(count), split(2), len(names or NAMES), names)


def test_the_training_splits_follow_each_other_and_the_scored_one_stays():
    first, second, third = made("a", 5), made("b", 3), made("c", 4)
    joined = join(first, [second, third])
    assert joined.parts == (range(5), range(5, 8), range(8, 12))
    for part, each in zip(joined.parts, (first, second, third), strict=True):
        for name, values in each.train.items():
            np.testing.assert_array_equal(joined.train[name][part.start : part.stop], values)
            assert joined.train[name].dtype == values.dtype
    assert joined.test is first.test
    assert (joined.name, joined.classes, joined.class_names) == ("a", 3, NAMES)


def test_a_validation_split_of_floats_makes_all_of_them_floats():
    first = dataclasses.replace(made("a", 5), validation=made("b", 2, floats=True).test)
    joined = join(first, [])
    np.testing.assert_array_equal(joined.validation["image"], first.validation["image"])
    for ours, theirs in ((joined.train, first.train), (joined.test, first.test)):
        np.testing.assert_allclose(ours["image"], theirs["image"] / np.float32(255), rtol=1e-6)


def test_nothing_extra_is_the_data_set_itself():
    first = made("a", 5)
    np.testing.assert_array_equal(join(first, []).train["image"], first.train["image"])
    assert join(first, []).parts == (range(5),)


@pytest.mark.parametrize("floats", ["first", "second"])
def test_pixels_and_floats_together_are_floats(floats):
    first, second = made("a", 5, floats=floats == "first"), made("b", 3, floats=floats == "second")
    joined = join(first, [second])
    both = [each.train["image"] for each in (first, second)]
    scaled = [x / 255 if x.dtype == np.uint8 else x for x in both]
    assert joined.train["image"].dtype == joined.test["image"].dtype == np.float32
    np.testing.assert_allclose(joined.train["image"], np.concatenate(scaled), rtol=1e-6)
    scale = 1 if floats == "first" else 255
    np.testing.assert_allclose(joined.test["image"] * scale, first.test["image"], rtol=1e-6)
    assert joined.train["image"].max() <= 1


@pytest.mark.parametrize("masks", [False, True])
def test_classes_are_matched_by_name(masks):
    first, second = made("a", 5, masks=masks), made("b", 6, ("owl", "cat", "dog"), masks=masks)
    label = second.train["label"]
    if masks:
        label[:, 0] = 255
    joined = join(first, [second]).train["label"]
    np.testing.assert_array_equal(joined[:5], first.train["label"])
    expected = [[2, 0, 1][i] if i < 3 else 255 for i in label.ravel()]
    np.testing.assert_array_equal(joined[5:].ravel(), expected)
    assert joined.dtype == label.dtype


@pytest.mark.parametrize(("ours", "theirs"), [((), NAMES), (NAMES, ()), ((), ())])
def test_without_names_they_are_matched_by_number(ours, theirs):
    first, second = made("a", 5, ours), made("b", 6, theirs)
    np.testing.assert_array_equal(join(first, [second]).train["label"][5:], second.train["label"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (made("b", 3, shape=(4, 4, 3)), r"'b' has images \[4, 4, 3\] and labels of 3 .* but 'a'"),
        (made("b", 3, NAMES[:2]), r"'b' has images .* labels of 2 classes, but 'a', .* 3 classes"),
        (made("b", 3, masks=True), r"'b' has images .* and masks of 3 classes, but 'a', .* labels"),
        (
            made("b", 3, ("cat", "dog", "emu")),
            "'b' has the class 'emu', which 'a', .*: give it the",
        ),
    ],
)
def test_data_sets_that_cannot_be_mixed(extra, message):
    with pytest.raises(DataError, match=message):
        join(made("a", 5), [extra])


@pytest.mark.parametrize(
    ("batch", "shares", "counts"),
    [
        (128, [], (128,)),
        (128, [0.5], (64, 64)),
        (10, [0.3], (7, 3)),  # 10 * 0.3 is not 3 in binary
        (128, [0.5, 0.1], (51, 64, 13)),  # of 51.2, 64 and 12.8
        (10, [0.15, 0.15], (7, 2, 1)),  # of equal remainders the first goes first
        (3, [1 / 3, 1 / 3], (1, 1, 1)),
        (100, [0.29, 0.7], (1, 29, 70)),
        (7, [np.float32(0.5)], (4, 3)),
    ],
)
def test_shares_of_a_batch(batch, shares, counts):
    assert mixed_counts(batch, shares) == counts
    assert sum(counts) == batch


def test_no_count_is_a_whole_example_off():
    for _ in range(200):
        batch = int(RNG.integers(50, 300))
        shares = RNG.dirichlet(np.full(4, 5.0))
        quotas = shares * batch
        if (quotas < 1).any():
            continue
        counts = mixed_counts(batch, shares[1:].tolist())
        assert sum(counts) == batch
        assert np.abs(np.array(counts) - quotas).max() < 1


@pytest.mark.parametrize(
    "shares", [[0.0], [1.0], [-0.1], [0.5, 0.5], [0.9, 0.1], [0.7, 0.3], [1.5]]
)
def test_shares_out_of_range(shares):
    with pytest.raises(ValueError, match="between 0 and 1, and together less than 1, but are"):
        mixed_counts(128, shares)


@pytest.mark.parametrize(("batch", "shares"), [(8, [0.01]), (2, [0.4, 0.4]), (8, [0.99])])
def test_a_share_without_an_example(batch, shares):
    with pytest.raises(ValueError, match=rf"A batch of {batch} has no place for one of the shares"):
        mixed_counts(batch, shares)
