"""Metrics on the host against scikit-learn, loops that count, and the library's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from scipy.special import log_softmax, softmax

import regjax as rj
from experiments.evaluation import metrics

CLASSES = 4
# By class so uneven that no mean over examples is one over classes; class 3 occurs nowhere.
LABEL = np.repeat([0, 1, 2], [40, 15, 5])


def draw(seed=0, classes=CLASSES, label=LABEL, coarse=False):
    """Logits, and rows as a network with these logits yields them; coarse ones have many ties."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(label), classes)) + 0.7 * np.eye(classes)[label]
    logits = np.round(logits) if coarse else logits
    logits = logits.astype(np.float32)
    probabilities = np.asarray(jax.nn.softmax(logits))
    rows = {
        "label": label.astype(np.int32),
        "prediction": logits.argmax(-1).astype(np.int32),
        "nll": -log_softmax(logits, -1)[np.arange(len(label)), label].astype(np.float32),
        "confidence": probabilities.max(-1),
        "probabilities": probabilities,
        "classes": np.array(classes),
    }
    return logits, rows


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_likelihood_and_calibration_are_the_librarys(seed, coarse):
    logits, rows = draw(seed, coarse=coarse)
    given = jnp.asarray(logits), jax.nn.one_hot(LABEL, CLASSES)
    for mine, theirs in (
        (metrics.accuracy, rj.metrics.accuracy),
        (metrics.nll, rj.metrics.negative_log_likelihood),
        (metrics.ece, rj.metrics.expected_calibration_error),
    ):
        found = mine(rows)
        assert type(found) is float
        np.testing.assert_allclose(found, theirs(*given), atol=1e-6)


def test_the_calibration_error_counted_bin_by_bin():
    _, rows = draw(5)
    right = rows["label"] == rows["prediction"]
    confidence, expected = rows["confidence"].astype(np.float64), 0.0
    for m in range(15):
        mine = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if mine.any():
            expected += mine.mean() * abs(right[mine].mean() - confidence[mine].mean())
    np.testing.assert_allclose(metrics.ece(rows), expected, atol=1e-12)


@pytest.mark.parametrize("bin_", range(1, 16))
def test_a_confidence_on_the_border_belongs_to_the_bin_below(bin_):
    border = np.float32(bin_ / 15)
    pair = np.array([border, np.nextafter(border, np.float32(0))], np.float32)
    # Right and wrong in one bin, whose gaps then cancel to the mean's.
    rows = {"label": np.array([0, 0]), "prediction": np.array([0, 1]), "confidence": pair}
    np.testing.assert_allclose(metrics.ece(rows), abs(0.5 - bin_ / 15), atol=1e-6)


def test_the_accuracy_of_classes():
    _, rows = draw()
    label, prediction = rows["label"], rows["prediction"]
    each = [np.mean(prediction[label == c] == c) for c in range(3)]
    np.testing.assert_allclose(metrics.class_accuracy(rows), [*each, 0.0], atol=1e-12)
    np.testing.assert_allclose(metrics.balanced_accuracy(rows), np.mean(each), atol=1e-12)
    some = {name: x[prediction < 3] for name, x in rows.items() if name != "classes"}
    theirs = sklearn.metrics.balanced_accuracy_score(some["label"], some["prediction"])
    np.testing.assert_allclose(metrics.balanced_accuracy(some), theirs, atol=1e-12)
    assert abs(theirs - metrics.accuracy(some)) > 0.01


def test_the_confusion_matrix_has_the_truth_in_its_rows():
    _, rows = draw()
    found = metrics.confusion(rows)
    labels = range(CLASSES)
    theirs = sklearn.metrics.confusion_matrix(rows["label"], rows["prediction"], labels=labels)
    assert found == theirs.tolist()
    assert found[3] == [0] * 4
    assert np.array(found).sum() == len(LABEL)
    assert found != np.transpose(found).tolist()


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_area_of_two_classes_is_that_of_the_second(seed, coarse):
    label = np.repeat([0, 1], [33, 8])
    _, rows = draw(seed, 2, label, coarse)
    score = rows["probabilities"][:, 1]
    assert (len(np.unique(score)) < 15) == coarse
    wins = [np.mean((s > score[:33]) + 0.5 * (s == score[:33])) for s in score[33:]]
    np.testing.assert_allclose(metrics.auc(rows), np.mean(wins), atol=1e-12)
    theirs = sklearn.metrics.roc_auc_score(label, score.astype(np.float64))
    np.testing.assert_allclose(metrics.auc(rows), theirs, atol=1e-12)


@pytest.mark.parametrize("coarse", [False, True])
def test_the_area_of_more_classes_is_the_mean_over_those_that_occur(coarse):
    _, rows = draw(1, coarse=coarse)
    each = [
        sklearn.metrics.roc_auc_score(c == LABEL, rows["probabilities"][:, c]) for c in range(3)
    ]
    np.testing.assert_allclose(metrics.auc(rows), np.mean(each), atol=1e-12)
    label = np.arange(30) % 4
    _, rows = draw(2, label=label)
    # scikit-learn wants probabilities that add up to 1 in float64; equal logits are equal still.
    theirs = sklearn.metrics.roc_auc_score(
        label, softmax(np.log(rows["probabilities"].astype(np.float64)), -1), multi_class="ovr"
    )
    np.testing.assert_allclose(metrics.auc(rows), theirs, atol=1e-12)


def test_scores_that_say_nothing_are_worth_a_half_and_the_best_are_worth_one():
    rows = {"label": np.arange(40) % 2, "probabilities": np.full((40, 2), 0.5)}
    assert metrics.auc(rows) == 0.5
    assert metrics.auc({**rows, "probabilities": np.eye(2)[rows["label"]]}) == 1
    assert metrics.auc({**rows, "probabilities": 1 - np.eye(2)[rows["label"]]}) == 0


def test_one_class_alone_has_no_area():
    for classes in (2, 3):
        rows = {"label": np.ones(5, int), "probabilities": np.full((5, classes), 1 / classes)}
        assert metrics.auc(rows) is None


@pytest.mark.parametrize("name", metrics.BUILT_IN)
def test_rows_without_a_label_count_nowhere(name):
    _, rows = draw()
    others = draw(7, label=np.arange(20) % CLASSES)[1]
    others["label"][:] = -1
    both = {n: np.concatenate([rows[n], others[n]]) for n in rows if n != "classes"}
    both["classes"] = rows["classes"]
    found = metrics.METRICS[name]
    assert found(both) == found(rows)
    others["classes"] = rows["classes"]
    assert found(others) is None
    assert found({n: x[:0] if x.ndim else x for n, x in rows.items()}) is None


def test_what_is_not_a_number_is_wrong_and_is_told():
    _, rows = draw()
    lost = {name: np.array(x) for name, x in rows.items()}
    lost["prediction"][:10] = -1
    for name in ("nll", "confidence", "probabilities"):
        lost[name][:10] = np.nan
    right = np.sum(rows["label"][10:] == rows["prediction"][10:])
    assert metrics.accuracy(lost) == right / len(LABEL)
    assert metrics.class_accuracy(lost)[0] <= 30 / 40
    assert np.array(metrics.confusion(lost)).sum() == len(LABEL) - 10
    for found in (metrics.nll, metrics.ece, metrics.auc):
        assert np.isnan(found(lost))


def test_sums_are_of_float64():
    # In float32 a mean of these would be off by more than 1e-4.
    rows = {"nll": np.full(2**20 + 1, 0.1, np.float32), "label": np.zeros(2**20 + 1, int)}
    rows["nll"][0] = 2.0**24
    expected = (2**24 + 2**20 * float(np.float32(0.1))) / (2**20 + 1)
    np.testing.assert_allclose(metrics.nll(rows), expected, rtol=1e-12)


# The registry.


@pytest.fixture
def registry():
    before = dict(metrics.METRICS)
    yield metrics.METRICS
    metrics.METRICS.clear()
    metrics.METRICS.update(before)


def test_tables_are_told_how_to_show_a_metric():
    names = ["accuracy", "nll", "ece", "balanced_accuracy", "class_accuracy", "class_count"]
    names += ["confusion", "auc"]
    assert list(metrics.BUILT_IN) == names
    for name in names:
        found = metrics.METRICS[name]
        assert found.percent == found.words.endswith("(%)")
    by_direction = {True: [], False: [], None: []}
    for name in names:
        by_direction[metrics.METRICS[name].larger_is_better].append(name)
    assert by_direction[False] == ["nll", "ece"]
    assert by_direction[None] == ["class_accuracy", "class_count", "confusion"]
    rows = {"label": np.array([2, 0, 2, -1]), "classes": np.array(4)}
    assert metrics.class_count(rows) == [1, 0, 2, 0]
    assert metrics.nll.words == "negative log-likelihood (nats)"


def test_a_metric_of_ones_own_is_one_function(registry):
    @metrics.metric(needs=("confidence",), words="confidence (%)", percent=True)
    def sure(rows):
        assert set(rows) == {"confidence"}
        return float(rows["confidence"].mean(dtype=np.float64))

    assert registry["sure"] is sure
    assert (sure.words, sure.percent, sure.decimals) == ("confidence (%)", True, 3)
    rows = {"label": np.array([0, -1, 1]), "confidence": np.array([0.5, 0.1, 1.0])}
    assert sure(rows) == 0.75


def test_a_name_is_not_taken_from_another_module(registry):
    def accuracy(rows):
        return 0.0

    with pytest.raises(ValueError, match=r"accuracy exists already in experiments\.evaluation\.m"):
        metrics.metric(needs=("label",), words="")(accuracy)
    assert registry["accuracy"] is metrics.accuracy
