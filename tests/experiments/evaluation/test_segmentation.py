"""Pixels counted by true and predicted class, and the scores of them, against scikit-learn."""

import functools

import jax
import numpy as np
import pytest
import sklearn.metrics
import tiny_answers
from tiny_answers import Examples

from experiments.evaluation import metrics
from experiments.evaluation.segmentation import Segmentation

SHAPE, CLASSES, COUNT, IGNORED = (5, 3, 2), 4, 6, 255


def pixelwise(params, image):
    """Logits `[B, H, W, C]`."""
    return image @ params


TASK = tiny_answers.Task(pixelwise, CLASSES)
STATE = np.random.default_rng(1).normal(size=(2, CLASSES)).astype(np.float32)
STATE[:, 3] = 0  # hardly ever the most likely one


@functools.cache
def examples():
    """Labels of classes 0 to 2 and ignored pixels; the last image has ignored ones only."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
    label = generator.choice([0, 1, 1, 2, IGNORED], (COUNT, *SHAPE[:-1])).astype(np.int32)
    label[-1] = IGNORED
    return Examples({"image": image, "label": label}, np.arange(COUNT, dtype=np.int32))


def predicted(state=STATE):
    image = (examples().stored["image"].astype(np.float64) / 255 - 0.4) / 0.3
    return (image @ state.astype(np.float64)).argmax(-1)


@functools.cache
def measure():
    return jax.jit(functools.partial(Segmentation(CLASSES).measure, TASK))


def rows(state=STATE):
    return {name: np.asarray(x) for name, x in measure()(state, examples()).items()}


def test_the_pixels_of_each_image_are_counted():
    found, prediction = rows(), predicted()
    assert {n: (x.shape, x.dtype) for n, x in found.items()} == {
        "confusion": ((COUNT, CLASSES, CLASSES), np.int32),
        "unanswered": ((COUNT, CLASSES), np.int32),
    }
    expected = np.zeros((COUNT, CLASSES, CLASSES), int)
    for i, truth in enumerate(examples().stored["label"]):
        for at in np.ndindex(*truth.shape):
            if truth[at] != IGNORED:
                expected[i, truth[at], prediction[i][at]] += 1
    assert found["confusion"].tolist() == expected.tolist()
    assert not found["confusion"][-1].any()
    assert not found["unanswered"].any()


def flat(state=STATE):
    label = examples().stored["label"]
    return label[label != IGNORED], predicted(state)[label != IGNORED]


def test_the_scores_are_over_all_images_together():
    truth, prediction = flat()
    found = Segmentation(CLASSES).scores(rows())
    occurring = sorted({*truth, *prediction})
    each = sklearn.metrics.jaccard_score(truth, prediction, labels=occurring, average=None)
    iou = dict(zip(occurring, each, strict=True))
    np.testing.assert_allclose(found["miou"], each.mean(), atol=1e-12)
    for c, value in enumerate(found["iou"]):
        assert (value is None) == (c not in iou)
        assert value is None or abs(value - iou[c]) < 1e-12
    assert abs(found["accuracy"] - sklearn.metrics.accuracy_score(truth, prediction)) < 1e-12
    # Of single images the mean is another number.
    images = [{n: x[i : i + 1] for n, x in rows().items()} for i in range(COUNT - 1)]
    single = [Segmentation(CLASSES).scores(image)["miou"] for image in images]
    assert abs(np.mean(single) - found["miou"]) > 1e-3


def test_a_class_occurs_where_it_is_true_or_predicted():
    confusion = np.zeros((1, 4, 4), int)
    confusion[0, 0, :2] = (3, 1)  # class 1 is predicted only, class 2 true only, class 3 neither
    confusion[0, 2, 0] = 2
    found = Segmentation(4).scores({"confusion": confusion, "unanswered": np.zeros((1, 4), int)})
    assert found == {"miou": 3 / 6 / 3, "iou": [3 / 6, 0.0, 0.0, None], "accuracy": 3 / 6}


def test_pixels_without_an_answer_are_wrong():
    state = STATE.copy()
    state[0, 0] = np.nan
    found, (truth, _) = rows(state), flat()
    assert not found["confusion"].any()
    assert found["unanswered"].sum(0).tolist() == np.bincount(truth, minlength=4).tolist()
    scores = Segmentation(CLASSES).scores(found)
    assert scores == {"miou": 0.0, "iou": [0.0, 0.0, 0.0, None], "accuracy": 0.0}


def test_nothing_labelled_has_no_score():
    nothing = {name: x[-1:] for name, x in rows().items()}
    expected = {"miou": None, "iou": [None] * CLASSES, "accuracy": None}
    assert Segmentation(CLASSES).scores(nothing) == expected
    assert Segmentation(CLASSES).scores({n: x[:0] for n, x in nothing.items()}) == expected


def test_sums_do_not_overflow():
    confusion = np.full((3, 2, 2), 2**30, np.int32)
    found = Segmentation(2).scores({"confusion": confusion, "unanswered": np.zeros((3, 2), "i4")})
    assert found == {"miou": pytest.approx(1 / 3), "iou": [1 / 3, 1 / 3], "accuracy": 0.5}


def test_memory_is_that_of_the_pixels():
    """No array has a number for each pair of classes at each pixel, nor twice C of them."""
    jaxpr = jax.make_jaxpr(functools.partial(Segmentation(CLASSES).measure, TASK))(
        STATE, examples()
    )
    pixels = COUNT * SHAPE[0] * SHAPE[1]
    assert max(v.aval.size for e in jaxpr.eqns for v in e.outvars) <= pixels * CLASSES


def test_tables_are_told_how_to_show_the_scores():
    for name in Segmentation(2).scores(rows()):
        assert metrics.METRICS[name].percent
    assert metrics.METRICS["miou"].words == "mean intersection over union (%)"
    assert metrics.METRICS["miou"].larger_is_better
    assert metrics.METRICS["iou"].larger_is_better is None
    assert not {"miou", "iou"} & set(metrics.BUILT_IN)
