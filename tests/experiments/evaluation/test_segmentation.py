"""Pixels counted by true and predicted class, and the scores of them, against scikit-learn."""

import functools

import by_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import tiny_answers
from tiny_answers import Examples

from experiments.evaluation import metrics
from experiments.evaluation.segmentation import Segmentation
from experiments.evaluation.views import Views

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


# Over windows, scales and flips.

WINDOWS = {"size": 5, "stride": 3}
EVERYTHING = {"scales": (0.75, 1.0, 1.4), "flips": True} | WINDOWS
VIEWS = [{}, WINDOWS, {"flips": True}, {"scales": (0.75, 1.0, 1.4)}, EVERYTHING]
SIDES = (11, 13)
# A class's pixels have a channel of their own; the brightness of each settles what is even.
BRIGHT = np.array([255, 240, 225, 210])


def convolved(params, image):
    """Logits by a kernel [3, 3, K, C]."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(image, params, (1, 1), "SAME", dimension_numbers=dimensions)


CONVOLVED = tiny_answers.Task(convolved, CLASSES, mean=0.0, std=1.0)


def viewed(kernel, image, label, views):
    """The evaluation's scores."""
    segmentation = Segmentation(CLASSES, Views(**views))
    examples = Examples({"image": image, "label": label}, np.arange(len(label), dtype=np.int32))
    compiled = jax.jit(functools.partial(segmentation.measure, CONVOLVED))
    found = compiled(jnp.asarray(kernel, jnp.float32), examples)
    return segmentation.scores({name: np.asarray(x) for name, x in found.items()})


def masks(generator, classes):
    """Random ones with ignored pixels."""
    return generator.choice([*classes, IGNORED], (3, *SIDES)).astype(np.int32)


def jaccard(label, prediction):
    truth, given = label[label != IGNORED], prediction[label != IGNORED]
    occurring = sorted({*truth, *given})
    return sklearn.metrics.jaccard_score(truth, given, labels=occurring, average="macro")


@pytest.mark.parametrize("views", VIEWS, ids=str)
def test_intersections_over_unions_of_random_masks_are_those_of_scikit_learn(views):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (3, *SIDES, 2)).astype(np.uint8)
    label = masks(generator, (0, 1, 1, 3))  # class 2 is never true
    kernel = generator.normal(size=(3, 3, 2, CLASSES))
    network = functools.partial(by_loops.convolved, kernel=kernel)
    logits = by_loops.viewed(network, image / 255, **views)
    gap = np.diff(np.sort(logits, -1)[..., -2:])
    assert gap.min() > 1e-5  # no pixel is decided by rounding
    found = viewed(kernel, image, label, views)
    assert abs(found["miou"] - jaccard(label, logits.argmax(-1))) < 1e-12
    if views:
        plain = network(image / 255).argmax(-1)
        assert abs(found["miou"] - jaccard(label, plain)) > 1e-4


def of_classes(label):
    """Images whose channel of a pixel's class is bright; ignored pixels are of class 2."""
    known = np.where(label == IGNORED, 2, label)
    return (np.eye(CLASSES)[known] * BRIGHT).astype(np.uint8)


def moved(rows, columns):
    """A kernel whose answer is the pixel so many rows and columns before."""
    kernel = np.zeros((3, 3, CLASSES, CLASSES))
    kernel[1 - rows, 1 - columns] = np.eye(CLASSES)
    return kernel


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("windows", [{}, WINDOWS])
def test_a_perfect_network_stays_perfect_through_windows_and_flips(windows, flips):
    label = masks(np.random.default_rng(1), (0, 1, 3))
    found = viewed(moved(0, 0), of_classes(label), label, windows | {"flips": flips})
    assert (found["miou"], found["accuracy"]) == (1.0, 1.0)
    assert found["iou"] == [1.0, 1.0, None, 1.0]


def before(known):
    """The class of the pixel on the left; class 0 at the border, where all answers are 0."""
    return np.pad(known, ((0, 0), (0, 0), (1, 0)))[:, :, :-1]


def between(known):
    """The brighter class of the pixels on both sides, the others' channels being dark."""
    left, right = (
        np.pad(known, ((0, 0), (0, 0), pad), constant_values=9) for pad in ((1, 0), (0, 1))
    )
    return np.minimum(left[:, :, :-1], right[:, :, 1:])


@pytest.mark.parametrize(
    ("views", "predicted"),
    [({}, before), (WINDOWS, before), ({"flips": True}, between)],
    ids=["whole", "windows", "flips"],
)
def test_a_network_that_is_one_pixel_off_is_noticed(views, predicted):
    """In windows too, each of which has its own first column, but no pixel only first columns."""
    label = masks(np.random.default_rng(2), (0, 1, 3))
    known = np.where(label == IGNORED, 2, label)
    found = viewed(moved(0, 1), of_classes(label), label, views)
    expected = jaccard(label, predicted(known))
    assert abs(found["miou"] - expected) < 1e-12
    assert 0.1 < expected < 0.5


@pytest.mark.parametrize("views", VIEWS[1:], ids=str)
def test_pixels_without_an_answer_in_any_view_are_wrong(views):
    kernel = moved(0, 0)
    kernel[1, 1, 1, 1] = np.nan
    label = masks(np.random.default_rng(3), (0, 1, 3))
    found = viewed(kernel, of_classes(label), label, views)
    assert (found["miou"], found["accuracy"]) == (0.0, 0.0)
    assert found["iou"] == [0.0, 0.0, None, 0.0]


def test_equal_evaluations_share_a_program():
    assert hash(Segmentation(3, Views(4))) == hash(Segmentation(3, Views(4, 3)))
    assert Segmentation(3) == Segmentation(3, Views()) != Segmentation(3, Views(flips=True))


def test_several_networks_at_once_are_scored_as_each_is():
    """As sweeps evaluate them: `vmap` over their states."""
    generator = np.random.default_rng(4)
    kernels = jnp.asarray(generator.normal(size=(2, 3, 3, 2, CLASSES)), jnp.float32)
    image = generator.integers(0, 256, (3, *SIDES, 2)).astype(np.uint8)
    stored = {"image": image, "label": masks(generator, (0, 1, 2, 3))}
    examples = Examples(stored, np.arange(3, dtype=np.int32))
    measure = functools.partial(Segmentation(CLASSES, Views(**EVERYTHING)).measure, CONVOLVED)
    together = jax.jit(jax.vmap(measure, (0, None)))(kernels, examples)
    each = [jax.jit(measure)(kernel, examples) for kernel in kernels]
    for name in together:
        np.testing.assert_array_equal(together[name], np.stack([x[name] for x in each]))


def test_tables_are_told_how_to_show_the_scores():
    for name in Segmentation(2).scores(rows()):
        assert metrics.METRICS[name].percent
    assert metrics.METRICS["miou"].words == "mean intersection over union (%)"
    assert metrics.METRICS["miou"].larger_is_better
    assert metrics.METRICS["iou"].larger_is_better is None
    assert not {"miou", "iou"} & set(metrics.BUILT_IN)
