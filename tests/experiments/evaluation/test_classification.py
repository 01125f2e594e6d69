"""What is measured of a classifier's answers, and the scores of it, against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_answers
from scipy.special import log_softmax, softmax
from tiny_answers import Examples

from experiments.evaluation import metrics
from experiments.evaluation.classification import Classification, measured

SHAPE, CLASSES, COUNT = (4, 4, 1), 4, 40
TASK = tiny_answers.Task(classes=CLASSES)


@functools.cache
def examples():
    """Images of all classes but the last, three of them without a label."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    label = (np.arange(COUNT) % 3).astype(np.int32)
    label[:3] = (-1, 255, CLASSES)
    return Examples({"image": image, "label": label}, np.arange(COUNT, dtype=np.int32))


STATE = np.random.default_rng(1).normal(size=(16, CLASSES)).astype(np.float32)


def logits():
    """Of the network, in NumPy."""
    image = (examples().stored["image"].astype(np.float64) / 255 - 0.4) / 0.3
    return image.reshape(COUNT, -1) @ STATE.astype(np.float64)


@functools.cache
def rows(names=metrics.BUILT_IN):
    evaluation = Classification(CLASSES, names)
    found = jax.jit(functools.partial(evaluation.measure, TASK))(STATE, examples())
    return {name: np.asarray(x) for name, x in found.items()}


def test_each_example_is_measured():
    found, g = rows(), logits()
    label = examples().stored["label"]
    assert found["label"].tolist() == [-1, -1, -1, *label[3:]]
    assert found["prediction"].tolist() == g.argmax(-1).tolist()
    np.testing.assert_allclose(found["probabilities"], softmax(g, -1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["confidence"], softmax(g, -1).max(-1), rtol=1e-4)
    nll = [-log_softmax(g[i])[label[i]] for i in range(3, COUNT)]
    np.testing.assert_allclose(found["nll"][3:], nll, rtol=1e-4, atol=1e-5)
    for name, x in found.items():
        assert x.dtype == (np.int32 if name in ("label", "prediction") else np.float32)


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        (("accuracy",), {"label", "prediction"}),
        (("nll",), {"label", "nll"}),
        (("ece", "accuracy"), {"label", "prediction", "confidence"}),
        (("auc",), {"label", "probabilities"}),
        (("confusion", "class_accuracy", "balanced_accuracy"), {"label", "prediction"}),
        ((), {"label"}),
    ],
)
def test_only_what_a_metric_needs_is_measured(names, needed):
    measure = functools.partial(Classification(CLASSES, names).measure, TASK)
    shapes = jax.eval_shape(measure, STATE, examples())
    assert set(shapes) == needed
    assert all(s.shape[1:] == (() if n != "probabilities" else (4,)) for n, s in shapes.items())


def test_the_scores_are_of_the_examples_with_a_label():
    found = Classification(CLASSES).scores(rows())
    assert tuple(found) == metrics.BUILT_IN
    label, prediction = examples().stored["label"][3:], logits().argmax(-1)[3:]
    assert found["accuracy"] == np.mean(label == prediction)
    assert np.shape(found["confusion"]) == (CLASSES, CLASSES)
    assert np.sum(found["confusion"]) == COUNT - 3
    assert (len(found["class_accuracy"]), found["class_accuracy"][3]) == (CLASSES, 0)
    assert 0 < found["ece"] < 1
    assert Classification(CLASSES, ("nll",)).scores(rows()) == {"nll": found["nll"]}
    none = {name: x[:0] for name, x in rows().items()}
    assert Classification(CLASSES).scores(none) == dict.fromkeys(metrics.BUILT_IN)


def test_the_likelihood_of_extreme_logits():
    given = jnp.array([[0.0, -jnp.inf, 1e4], [0.0, -jnp.inf, 0.0], [jnp.nan, 3.0, 0.0]])
    label = jnp.array([[0.0, 0.0, 1.0], [0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    found = measured(("nll", "prediction", "label"), given, label)
    np.testing.assert_allclose(found["nll"], [0, np.log(2), np.nan], rtol=1e-6)
    # A network that answers NaN predicts nothing, and not the class of the first NaN.
    assert found["prediction"].tolist() == [2, 0, -1]
    assert found["label"].tolist() == [2, 0, 1]
    wrong = measured(("nll",), given[:1], jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])[:1])
    np.testing.assert_allclose(wrong["nll"], [1e4])


def test_scores_are_of_float32_whatever_the_network_computes_in():
    half = tiny_answers.Task(classes=CLASSES, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(
        functools.partial(Classification(CLASSES).measure, half), STATE, examples()
    )
    assert {x.dtype.name for x in shapes.values()} == {"int32", "float32"}


def test_equal_evaluations_are_one_program():
    assert Classification(3, ("nll",)) == Classification(3, ("nll",))
    assert len({Classification(3), Classification(3), Classification(4)}) == 2


@pytest.fixture
def registry():
    before = dict(metrics.METRICS)
    yield
    metrics.METRICS.clear()
    metrics.METRICS.update(before)


def test_what_cannot_be_measured_is_refused_in_one_sentence(registry):
    with pytest.raises(ValueError, match="unknown metric 'f1'; known are: accuracy, nll, ece, "):
        Classification(CLASSES, ("accuracy", "f1"))

    @metrics.metric(needs=("label", "margin"), words="margin")
    def margin(rows):
        return 0.0

    with pytest.raises(ValueError, match="unknown metric 'margin'; known are: accuracy"):
        Classification(CLASSES, ("margin",))


def test_a_metric_of_ones_own_is_scored(registry):
    @metrics.metric(needs=("confidence",), words="least confidence")
    def least(rows):
        return float(rows["confidence"].min())

    found = Classification(CLASSES, ("least",)).scores(rows(("ece",)))
    assert found == {"least": rows()["confidence"][3:].min()}
