"""Growing numbers: against closed forms, at the steps where they begin, end and stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError
from experiments.training.growth import Curve, grown, read_curves

PER_EPOCH, STEPS = 7.5, 60
ALL = "isda(strength=2.0) | l2(weight=4.0) | l1(weight=8.0) | l2(weight=3.0)"


def shares(text: str, steps: np.ndarray) -> np.ndarray:
    (curve,) = read_curves({"l2.weight": text}, PER_EPOCH)
    return np.array([curve.share(jnp.int32(step), STEPS) for step in steps])


@pytest.mark.parametrize(("epochs", "end"), [(None, 60), (4, 30), (0.5, 3.75), (80, 600)])
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", lambda t: t),
        ("sigmoid", lambda t: np.exp(-5 * (1 - t) ** 2)),
        ("cosine", lambda t: np.sin(np.pi * t / 2) ** 2),
    ],
)
def test_a_number_grows_by_its_curve_and_then_stays(shape, expected, epochs, end):
    steps = np.arange(62)
    text = shape if epochs is None else f"{shape}(epochs={epochs})"
    t = np.minimum(steps / end, 1.0)
    np.testing.assert_allclose(shares(text, steps), expected(t), rtol=1e-5, atol=1e-7)
    assert np.all(shares(text, steps[t == 1]) == 1)


def test_the_ramp_of_temporal_ensembling():
    """`exp(-5 (1 - t)^2)` over 80 epochs, by hand; the program has no weight in the first."""
    epochs = jnp.array([0, 1, 40, 80, 299])
    ramp, late = (
        read_curves({"l2.weight": text}, 1)[0].share(epochs, 300)
        for text in ("sigmoid(epochs=80)", "sigmoid(epochs=80, idle=1)")
    )
    np.testing.assert_allclose(ramp, [0.0067379, 0.0076291, 0.2865048, 1, 1], rtol=1e-5)
    np.testing.assert_array_equal(late, [0, *ramp[1:]])


def test_a_number_that_idles_is_0_for_so_many_epochs():
    steps = np.arange(62)
    expected = np.where(steps < 2 * PER_EPOCH, 0, shares("linear(epochs=4)", steps))
    np.testing.assert_array_equal(shares("linear(epochs=4, idle=2)", steps), expected)


def test_a_number_begins_as_another_part_of_itself():
    """From three times what it is, or half of it; straight where the curve is."""
    steps = np.arange(62)
    up = np.float64(shares("cosine(epochs=4)", steps))
    for start in (3, 0.5):
        found = shares(f"cosine(epochs=4, start={start})", steps)
        np.testing.assert_allclose(found, start + (1 - start) * up, rtol=1e-6)
    assert shares("linear(epochs=4, start=3)", np.array([0, 4 * PER_EPOCH])).tolist() == [3, 1]


def test_the_linear_one_is_the_quotient_to_the_last_bit():
    steps = np.arange(STEPS)
    expected = steps.astype(np.float32) / np.float32(STEPS)
    np.testing.assert_array_equal(shares("linear", steps), expected)


def test_a_run_of_no_steps_is_no_error():
    assert Curve("l2.weight", "linear").share(jnp.int32(0), 0) == 0


def test_only_the_named_numbers_of_a_loss_grow():
    loss = rj.parse(ALL)
    assert grown(loss, (), jnp.int32(1), 4) is loss
    curves = read_curves(
        dict.fromkeys(("isda.strength", "l2_2.weight", "mixup.alpha"), "linear"), PER_EPOCH
    )
    expected = "isda(strength=1.0) | l2(weight=4.0) | l1(weight=8.0) | l2(weight=1.5)"
    assert grown(loss, curves, jnp.int32(2), 4) == rj.parse(expected)


def test_strengths_still_stack_and_each_has_its_own_curve():
    curves = read_curves({"l1.weight": "linear", "l2.weight": "sigmoid"}, PER_EPOCH)
    losses = [rj.parse(f"cross_entropy | l1(weight={w}) | l2(weight={w})") for w in (1.0, 3.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *losses)
    found = jax.vmap(lambda loss, step: grown(loss, curves, step, 4))(stacked, jnp.array([1, 3]))
    assert jax.tree.structure(found) == jax.tree.structure(stacked)
    by_name = {name: stage.arguments for name, stage in found.named()}
    np.testing.assert_allclose(by_name["l1"]["weight"], [1 / 4, 3 * 3 / 4], rtol=1e-6)
    expected = [np.exp(-5 * 9 / 16), 3 * np.exp(-5 / 16)]
    np.testing.assert_allclose(by_name["l2"]["weight"], expected, rtol=1e-6)


def test_curves_are_hashable_values():
    texts = {"isda.strength": "linear", "l2.weight": "sigmoid(epochs=80)"}
    expected = (Curve("isda.strength", "linear"), Curve("l2.weight", "sigmoid", 80 * PER_EPOCH))
    assert read_curves(texts, PER_EPOCH) == expected
    assert len({expected, read_curves(texts, PER_EPOCH)}) == 1
    assert read_curves({}, PER_EPOCH) == ()


KNOWN = (
    "but a number grows as linear, sigmoid, cosine, each with epochs= above 0 or nothing, such as "
    "'sigmoid(epochs=80)', with idle= where it is 0 in the first epochs, and with start= where "
    "another part than 0 of the number is to be its beginning."
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exponential", f"is 'exponential', {KNOWN}"),
        ("linear(epochs=0)", f"is 'linear(epochs=0)', {KNOWN}"),
        ("linear(epochs=-1)", KNOWN),
        ("linear(epochs='a')", KNOWN),
        ("linear(epochs=True)", KNOWN),
        ("linear(idle=-1)", KNOWN),
        ("linear(idle='a')", KNOWN),
        ("linear(start=-1)", KNOWN),
        ("linear(start='a')", KNOWN),
        ("sigmoid(steps=3)", f"is 'sigmoid(steps=3)', {KNOWN}"),
        ("sigmoid(3)", ": the curve 'sigmoid(3)' cannot be read: write a name with keyword"),
        ("", ": the curve '' cannot be read: write a name with keyword"),
        (3, ": the curve '3' cannot be read: write a name with keyword"),
    ],
)
def test_curves_that_are_none_are_refused_in_a_sentence(text, message):
    with pytest.raises(ConfigError) as error:
        read_curves({"isda.strength": text}, PER_EPOCH)
    assert str(error.value).startswith("config.growing of 'isda.strength'")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
