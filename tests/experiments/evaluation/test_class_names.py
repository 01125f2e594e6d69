"""Labels of one data set in the numbers of another."""

import numpy as np
import pytest

from experiments.evaluation.class_names import mapped_labels

OURS, THEIRS = ("cat", "dog", "ship"), ("dog", "tabby", "oak", "lion", "ship")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, [1, -1, -1, -1, 2]),
        ({"cat": ("tabby", "lion"), "ship": ["ship"]}, [-1, 0, -1, 0, 2]),
        ({"ship": ("dog",)}, [2, -1, -1, -1, -1]),  # equal names count where none are given
    ],
)
def test_labels_go_by_the_names_of_their_classes(names, expected):
    found = mapped_labels(np.arange(5), THEIRS, OURS, names)
    assert found.tolist() == expected
    assert found.dtype == np.int32
    order = np.array([[4, 0, -1], [1, 1, 2]])
    known = np.array([*expected, -1])
    assert mapped_labels(order, THEIRS, OURS, names).tolist() == known[order].tolist()
    assert mapped_labels(order.astype(np.uint8)[1:], THEIRS, OURS, names).shape == (1, 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"cta": ("tabby",)}, "names 'cta', but the classes of the networks are: cat, dog, ship."),
        ({"cat": ("tiger",)}, "names 'tiger', .* of the data set are: dog, tabby, oak, lion, ship"),
        ({"cat": ("lion",), "dog": ("lion",)}, "the class 'lion' of the data set twice"),
        ({"cat": ("lion", "lion")}, "the class 'lion' of the data set twice"),
    ],
)
def test_names_that_are_not_there_are_told_with_those_that_are(names, message):
    with pytest.raises(ValueError, match=message) as caught:
        mapped_labels(np.arange(5), THEIRS, OURS, names)
    assert "\n" not in str(caught.value)


def test_data_sets_without_a_common_name_need_a_map():
    many = tuple(f"n{i}" for i in range(200))
    with pytest.raises(ValueError, match=r"no class has the same name .* n19 and 180 more there"):
        mapped_labels(np.arange(5), many, OURS)
