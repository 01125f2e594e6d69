"""A class against all others."""

import numpy as np
import pytest

from experiments.data.dataset import DataError, Dataset
from experiments.data.one_class import one_class


def dataset(label=(0, 2, 1, 2), **more):
    split = {"image": np.zeros((4, 2, 2, 1), np.uint8), "label": np.array(label, np.int32)}
    return Dataset("spots", split, split, 3, ("nevus", "melanoma", "keratosis"), **more)


def test_one_class_is_told_from_all_others_in_every_split():
    held_out = {"image": np.zeros((2, 2, 2, 1), np.uint8), "label": np.array([2, -1], np.int32)}
    found = one_class(dataset(validation=held_out), "keratosis")
    assert (found.classes, found.class_names) == (2, ("others", "keratosis"))
    assert found.train["label"].tolist() == found.test["label"].tolist() == [0, 1, 0, 1]
    assert found.validation["label"].tolist() == [1, -1]
    assert found.train["label"].dtype == np.int32
    assert found.parts == (range(4),)
    assert one_class(dataset(), "melanoma").validation is None


def test_an_unknown_class_and_masks_are_refused():
    with pytest.raises(DataError, match=r"'mole' must be a class of 'spots'.*melanoma, keratosis"):
        one_class(dataset(), "mole")
    with pytest.raises(DataError, match="of which each image has one"):
        one_class(dataset(np.zeros((4, 2, 2))), "melanoma")
