"""Training examples of other data sets behind a data set's own."""

import dataclasses

import numpy as np
import pytest

from experiments.data.dataset import DataError, Dataset
from experiments.data.joining import add

LABEL = (np.arange(6) % 3).astype(np.int32)
NAMES = ("cat", "dog", "owl")


def made(name="own", label=LABEL, floats=False, first=0, **changes):
    image = first + np.arange(len(label)).reshape(-1, 1, 1, 1)
    image = image.astype(np.float32 if floats else np.uint8)
    split = {"image": image, "label": np.asarray(label, np.int32)}
    return Dataset(name, split, split, 3, NAMES, **changes)


def copies(source, label=None, name="copies"):
    source = np.asarray(source)
    return made(name, LABEL[source] if label is None else label, floats=True, source=source)


def test_they_stand_behind_the_parts_with_what_they_are_copies_of():
    own = dataclasses.replace(made(), parts=(range(4), range(4, 6)))
    more = made("more", LABEL[:3], first=10)
    found = add(own, [(copies([3, 1, 3, 1]), None), (more, None)])
    assert found.parts == own.parts
    first, second = found.joined
    assert (first.rows, second.rows) == (range(6, 10), range(10, 13))
    assert (first.times, first.count(2), second.count(2)) == (2, 4, 3)
    assert first.beside(np.array([1])).tolist() == [7, 9]
    assert first.beside(np.array([1])).dtype == np.int32
    assert second.beside(np.array([1])).tolist() == [10, 11, 12]
    np.testing.assert_array_equal(found.train["label"][6:10], LABEL[[3, 1, 3, 1]])
    assert found.train["image"].dtype == np.float32
    np.testing.assert_array_equal(found.train["image"][6:10, 0, 0, 0], np.arange(4))


def test_an_image_without_a_copy_is_one_sentence():
    joined = add(made(), [(copies([0, 1]), None)]).joined[0]
    with pytest.raises(DataError, match=r"'copies' has no copies of 2 of 3 images .*\{seed\}"):
        joined.beside(np.array([1, 2, 5]))


@pytest.mark.parametrize("split", ["train", "test", "validation"])
@pytest.mark.parametrize("floats", [False, True])
def test_images_that_a_run_must_not_see_are_one_sentence(split, floats):
    """Whether they are stored as grey levels or as shares of 255, rounded in another way."""
    own = made(label=LABEL[:3])
    image = np.array([7, 9, 200], np.uint8).reshape(-1, 1, 1, 1)
    own = dataclasses.replace(own, validation=dict(own.train), test=dict(own.train))
    getattr(own, split)["image"] = image
    more = made("more", LABEL[:3], first=100)
    more.train["image"][1:] = image[1:]
    if floats:
        more.train["image"] = (more.train["image"] / 255).astype(np.float32)
    with pytest.raises(DataError, match="'more' repeats 2 images of 'own', the first at 1, which"):
        add(own, [(more, None)])


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([copies([0, 6], label=[0, 0])], "'copies' holds copies of other images than these 6"),
        ([copies([0, 1], label=[0, 2])], "or has them in another order"),
        ([copies([0, 1, 1])], "'copies' has more copies of some images than of others"),
        ([copies([0]), copies([0, 0])], "for some seeds more images than for others"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(others, says):
    with pytest.raises(DataError, match=says):
        add(made(), [(other, seed) for seed, other in enumerate(others)])
