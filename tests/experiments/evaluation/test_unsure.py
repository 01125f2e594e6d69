"""What is right at p <= 0.5, counted by hand."""

import numpy as np

from experiments.evaluation import metrics, unsure
from experiments.evaluation.classification import Classification, known, usual

# Right and unsure are the examples 0, 1 and 4; 2 is wrong, 3 sure, 5 without a label.
ROWS = {
    "label": np.array([0, 0, 0, 1, 2, -1]),
    "prediction": np.array([0, 0, 1, 1, 2, 0]),
    "probability": np.array([0.5, 0.4, 0.3, 0.51, 0.26, 0.1]),
    "uncertainty": np.array([1.0, 2.0, 30.0, 40.0, 6.0, 50.0]),
    "classes": np.array(4),
}
NAMES = ("unsure_count", "unsure_probability", "unsure_uncertainty", "least_probability")


def test_the_rows_of_a_table():
    found = Classification(4, (*NAMES, "unsure_by_class")).scores(ROWS)
    assert found["unsure_count"] == 3
    np.testing.assert_allclose(found["unsure_probability"], (0.5 + 0.4 + 0.26) / 3)
    assert found["unsure_uncertainty"] == 3
    assert found["least_probability"] == 0.26
    first, second, third, last = found["unsure_by_class"]
    np.testing.assert_allclose(first, [0.45, 2, 1.5])
    assert (second, third, last) == ([None, 0, None], [0.26, 1, 6.0], [None, 0, None])


def test_without_such_examples_there_are_no_means():
    sure = {**ROWS, "probability": np.full(6, 0.9)}
    found = Classification(4, NAMES).scores(sure)
    assert found == {
        "unsure_count": 0,
        "unsure_probability": None,
        "unsure_uncertainty": None,
        "least_probability": 0.9,
    }
    wrong = {**ROWS, "prediction": np.full(6, 3)}
    assert unsure.least_probability(wrong) is None


def test_no_comparison_has_them_unasked():
    assert set(NAMES) <= set(known())
    assert not {*NAMES, "unsure_by_class", "auc_error"} & {*usual(10), *metrics.BUILT_IN}
