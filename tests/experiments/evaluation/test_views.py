"""Logits averaged over views: against NumPy float64, and what the compiled program holds."""

import functools

import by_loops
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hammered import assert_one_sentence
from jax.extend.core import jaxprs_in_params

from experiments import ConfigError
from experiments.evaluation.views import WHOLE, Views, read

CLASSES = 4
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 2, CLASSES))
BIAS = np.array([0.5, -1.0, 0.0, 2.0])
SCALES = (0.6, 1.0, 1.7)
WINDOWS = {"size": 4, "stride": 3}
EVERYTHING = "flips | scales(factors=(0.6, 1.0, 1.7)) | windows(size=4, stride=3)"


def network(image, kernel=KERNEL):
    """One convolution, not alike from left to right nor from top to bottom."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.asarray(kernel, image.dtype)
    found = jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=dimensions
    )
    return found + jnp.asarray(BIAS, image.dtype)[None, None, None]


def oracle(image):
    return by_loops.convolved(image, KERNEL) + BIAS


def images(height=7, width=11):
    return np.random.default_rng(height).normal(size=(2, height, width, 2))


def found(text, image, network=network):
    function = functools.partial(read(text).logits, network, classes=CLASSES)
    return np.asarray(jax.jit(function)(jnp.asarray(image, jnp.float32)))


@pytest.mark.parametrize(
    ("text", "views", "shape"),
    [
        ("", {}, (7, 11)),
        ("windows(size=4, stride=3)", WINDOWS, (7, 11)),
        ("windows(size=4)", WINDOWS, (5, 9)),  # two thirds, rounded up
        ("windows(size=3, stride=1)", {"size": 3, "stride": 1}, (5, 4)),
        ("windows(size=4, stride=4)", {"size": 4, "stride": 4}, (9, 7)),
        ("windows(size=6)", {"size": 6, "stride": 4}, (5, 9)),  # one side is shorter
        ("windows(size=9)", {"size": 9, "stride": 6}, (5, 9)),
        ("flips", {"flips": True}, (7, 11)),
        ("flips | windows(size=4, stride=3)", {"flips": True} | WINDOWS, (6, 9)),
        ("scales(factors=(0.6, 1.0, 1.7))", {"scales": SCALES}, (7, 11)),
        ("scales(factors=1.7)", {"scales": (1.7,)}, (7, 5)),
        (EVERYTHING, {"flips": True, "scales": SCALES} | WINDOWS, (7, 11)),
    ],
)
def test_logits_are_the_means_that_loops_find(text, views, shape):
    image = images(*shape)
    logits = found(text, image)
    assert (logits.shape, logits.dtype) == ((2, *shape, CLASSES), np.float32)
    np.testing.assert_allclose(logits, by_loops.viewed(oracle, image, **views), atol=2e-5)


@pytest.mark.parametrize("text", ["flips", "flips | windows(size=4, stride=3)"])
def test_answers_are_mirrored_back_from_left_to_right(text):
    """The same with answers that are mirrored back from top to bottom is another thing."""
    views = {"flips": True, **(WINDOWS if "windows" in text else {})}
    image = images(7, 7)
    wrong, none = (by_loops.viewed(oracle, image, **views, axis=axis) for axis in (1, ()))
    for other in (wrong, none):
        assert np.abs(found(text, image) - other).max() > 1
    np.testing.assert_allclose(
        found(text, image), by_loops.viewed(oracle, image, **views), atol=2e-5
    )
    mirrored = found(text, image[:, :, ::-1])
    np.testing.assert_allclose(mirrored[:, :, ::-1], found(text, image), atol=2e-5)


def test_what_is_averaged_are_logits():
    """Of (0, 6) and (8, 0), of which the probabilities would tell next to nothing apart."""
    image = np.array([0.0, 1.0, 4.0])[None, None, :, None]

    def answers(x):
        first, second = (jnp.array([[[each]]]) for each in ([0.0, 6.0], [8.0, 0.0]))
        return jnp.where(jnp.sum(x) < 3, first, second) + 0 * x

    views = Views(size=2, stride=1)
    logits = views.logits(answers, jnp.asarray(image, jnp.float32), 2)
    np.testing.assert_array_equal(logits[0, 0], [[0, 6], [4, 3], [8, 0]])


@pytest.mark.parametrize(
    ("text", "views"),
    [("", {}), (EVERYTHING, {"flips": True, "scales": SCALES} | WINDOWS)],
    ids=["whole", "everything"],
)
def test_low_precision_is_averaged_in_float32(text, views):
    image = jnp.asarray(images(), jnp.bfloat16)
    seen = []

    def answers(x):
        seen.append(x.dtype)
        return network(x)

    logits = read(text).logits(answers, image, CLASSES)
    assert logits.dtype == jnp.float32
    assert set(seen) == {jnp.dtype(jnp.bfloat16)}
    expected = by_loops.viewed(oracle, np.asarray(image, float), **views)
    np.testing.assert_allclose(logits, expected, atol=0.1)


@pytest.mark.parametrize("text", ["", "windows(size=4) | flips", "scales(factors=(1.0, 2.0, 0.7))"])
def test_what_is_not_finite_stays_where_it_is(text):
    """A pixel without an answer leaves others theirs, and a class that cannot be stays so."""
    image = images(9, 9)
    image[0, 4, 3] = 1000

    def answers(x):
        logits = jnp.where(jnp.arange(CLASSES)[None, None, None] == 2, -jnp.inf, x[..., :1])
        return jnp.where(x[..., :1] > 20, jnp.nan, logits)

    logits = found(text, image, answers)
    nothing = np.isnan(logits).any(-1)
    assert nothing[0, 4, 3]
    assert not nothing[1].any()
    rows, columns = np.nonzero(nothing[0])
    # Bilinear interpolation is of two neighbours, there and back.
    assert max(np.abs(rows - 4).max(), np.abs(columns - 3).max()) <= (2 if "scales" in text else 0)
    assert np.isfinite(logits[~nothing][:, [0, 1, 3]]).all()
    assert logits[~nothing][:, 2].max() < -1e37


def test_no_pixel_is_missed_or_sees_nothing():
    """Constant answers stay what they are, of any image, window and stride."""
    ones = lambda x: jnp.ones((*x.shape[:-1], CLASSES))  # noqa: E731
    for height, width, size in ((1, 1, 1), (5, 8, 3), (13, 6, 4)):
        for stride in range(1, size + 1):
            views = Views(size, stride, (1.3, 0.1) if stride == 1 else (1.0,), flips=True)
            logits = views.logits(ones, jnp.zeros((1, height, width, 2)), CLASSES)
            np.testing.assert_allclose(logits, 1, rtol=1e-6)


# The program.


def convolutions(jaxpr):
    """How many of them there are, and how many are computed."""
    there, computed = 0, 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            there, computed = there + 1, computed + 1
        inner = [convolutions(getattr(j, "jaxpr", j)) for j in jaxprs_in_params(equation.params)]
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        # Of the branches of a switch, each turn of the loop around them computes one.
        turns = turns / len(inner) if equation.primitive.name == "cond" else turns
        there += sum(each[0] for each in inner)
        computed += turns * sum(each[1] for each in inner)
    return there, computed


def lowered(text, shape=(7, 11)):
    function = functools.partial(read(text).logits, network, classes=CLASSES)
    return jax.jit(function).trace(jax.ShapeDtypeStruct((1, *shape, 2), jnp.float32))


@pytest.mark.parametrize(
    ("text", "scales", "windows"),
    [
        ("", 1, 1),
        ("flips", 1, 2),
        ("windows(size=4, stride=3)", 1, 2 * 4),
        ("windows(size=4, stride=3) | flips", 1, 2 * 2 * 4),
        ("scales(factors=(0.6, 1.0, 1.7))", 3, 3),
        # Windows of 4 in 4 x 7, 7 x 11 and 12 x 19 pixels.
        (EVERYTHING, 3, 2 * (1 * 2 + 2 * 4 + 4 * 6)),
    ],
)
def test_the_network_is_compiled_once_a_scale_and_runs_once_a_window(text, scales, windows):
    traced = lowered(text)
    assert convolutions(traced.jaxpr.jaxpr) == (scales, pytest.approx(windows))
    assert traced.lower().compile().as_text().count(" convolution(") == scales


def test_windows_of_cityscapes_are_those_of_the_program():
    """Eight windows of 769 in 1024 x 2048 pixels, 513 apart, the last ones at the border."""
    views = read("windows(size=769)")
    assert views == read("windows(size=769, stride=513)")
    windows, size = views._windows(1024, 2048)
    places = list(zip(windows.top.tolist(), windows.left.tolist(), strict=True))
    lefts = (0, 513, 1026, 1279)
    assert (places, size) == ([(top, left) for top in (0, 255) for left in lefts], (769, 769))


def test_memory_is_that_of_one_scale_and_the_sum():
    def temporary(text):
        return lowered(text, (60, 90)).lower().compile().memory_analysis().temp_size_in_bytes

    one = temporary("windows(size=30) | scales(factors=2.0)")
    several = temporary("windows(size=30) | scales(factors=(1.5, 2.0, 1.75, 1.9))")
    of_sum = 60 * 90 * CLASSES * 4
    assert 4 * of_sum < one < 12 * of_sum  # the logits of the scale, at most in three copies
    assert several < one + 1.1 * of_sum
    # Twice as many windows, but no more of them at a time.
    assert temporary("windows(size=30, stride=15) | scales(factors=2.0)") < 1.1 * one


# The expression.


def test_an_expression_is_a_value():
    assert read("") == read(" ") == WHOLE == Views()
    views = Views(4, 3, SCALES, True)
    assert read(EVERYTHING) == views
    assert hash(read(EVERYTHING)) == hash(views)
    assert read("windows(size=4) | flips") == Views(4, flips=True) != Views(4)
    assert read("scales(factors=[2, 0.5])") == Views(scales=(2, 0.5))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mirror", "unknown part 'mirror'; known are: windows, scales, flips"),
        ("flips | flips", "flips is named twice"),
        ("flips(axis=1)", "flips has no 'axis'; it takes: nothing"),
        ("windows(size=4, step=2)", "windows has no 'step'; it takes: size, stride"),
        ("windows", "windows needs size="),
        ("windows(size=None)", "windows needs size="),
        ("windows(size=0)", "size of windows must be a whole number of at least 1"),
        ("windows(size=-4)", "size of windows must be a whole number of at least 1"),
        ("windows(size=4.0)", "size of windows must be a whole number of at least 1"),
        ("windows(size=True)", "size of windows must be a whole number of at least 1"),
        ("windows(size=4, stride=5)", "would leave gaps, but for size=4 it is 5"),
        ("windows(size=4, stride=0)", "must be a whole number from 1 to their size"),
        ("scales", "scales needs factors="),
        ("scales(factors=())", "factors of scales must be positive numbers"),
        ("scales(factors=(1.0, 0.0))", "factors of scales must be positive numbers"),
        ("scales(factors=(1.0, -1.0))", "factors of scales must be positive numbers"),
        ("scales(factors=(1.0, '2'))", "factors of scales must be positive numbers"),
        ("scales(factors=(1.0, 17.0))", "of at most 16"),
        ("scales(factors=1e999)", "finite numbers, such as windows(size=769)"),
        ("scales(0.75, 1.0)", "write a name with keyword arguments"),
        ("flips |", "write a name with keyword arguments"),
    ],
)
def test_wrong_ones_are_refused_in_one_sentence(text, says):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert_one_sentence(caught.value, says)
    assert str(caught.value).startswith("config.views: ")


def test_a_stride_needs_a_size():
    with pytest.raises(ValueError, match="size of windows must be a whole number"):
        Views(stride=3)
