"""Optimizers and schedules: against NumPy, and what is said to expressions that do not work."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import regjax as rj
from experiments.training import optimizers
from experiments.training.optimizers import EXAMPLE, OPTIMIZERS, optimizer, schedule

PER_EPOCH, EPOCHS, RATE = 7.5, 8, 0.4


def rates(text, steps, epochs=EPOCHS):
    made = schedule(text, RATE, PER_EPOCH, epochs)
    return np.array([float(made(step)) for step in range(steps)])


def warm(start, rest):
    return np.concatenate([RATE * np.arange(start) / start, rest])


def test_a_constant_rate_with_and_without_warm_up():
    np.testing.assert_allclose(rates("constant", 20), RATE)
    np.testing.assert_allclose(rates("constant(warmup=2)", 60), warm(15, [RATE] * 45), rtol=1e-6)


@pytest.mark.parametrize(("warmup", "start"), [(0, 0), (2, 15), (5, 38)])
def test_steps_fall_at_their_epochs(warmup, start):
    """Epochs 4 and 6 are steps 30 and 45, counted from the first step; also in a warm-up."""
    found = rates(f"step(epochs=(4, 6), factor=0.1, warmup={warmup})", 60)
    expected = RATE * 0.1 ** np.searchsorted([30, 45], np.arange(60), side="right")
    expected[:start] = RATE * np.arange(start) / max(start, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("warmup", "start"), [(0, 0), (1, 8), (2, 15)])
def test_a_cosine_ends_at_zero_with_the_last_epoch(warmup, start):
    found = rates(f"cosine(warmup={warmup})", 62)
    length = 60 - start
    expected = RATE / 2 * (1 + np.cos(np.pi * np.minimum(np.arange(62 - start), length) / length))
    np.testing.assert_allclose(found, warm(start, expected) if start else expected, atol=1e-6)
    assert found[start] == pytest.approx(RATE)
    assert found[59] > 0
    np.testing.assert_allclose(found[60:], 0, atol=1e-7)


def test_a_polynomial_holds_until_it_starts():
    found = rates("polynomial(power=1, start=6)", 62)
    np.testing.assert_allclose(found[:46], RATE)
    np.testing.assert_allclose(found[45:], RATE * np.maximum(15 - np.arange(17), 0) / 15, atol=1e-7)


def test_ramps_rise_and_fall_as_in_temporal_ensembling():
    """Of 300 epochs the first 80 and the last 50; `exp(-5)` at first, `exp(-12.5 (49/50)^2)`."""
    rate = schedule("ramps(up=80, down=50)", 1.0, 1, 300)
    found = np.array([float(rate(epoch)) for epoch in (0, 1, 40, 80, 200, 250, 275, 299)])
    expected = [0.0067379, 0.0076291, 0.2865048, 1, 1, 1, np.exp(-12.5 / 4), 6.1136e-6]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    flat = schedule("ramps(up=0, down=0)", 1.0, 1, 300)
    np.testing.assert_allclose([float(flat(epoch)) for epoch in (0, 299)], 1)


@pytest.mark.parametrize(("warmup", "start"), [(0, 0), (2, 15)])
@pytest.mark.parametrize(("given", "power"), [("", 0.9), ("power=2.5, ", 2.5)])
def test_a_polynomial_ends_at_zero_with_the_last_epoch(given, power, warmup, start):
    found = rates(f"polynomial({given}warmup={warmup})", 62)
    left = 1 - np.minimum(np.arange(62 - start) / (60 - start), 1)
    expected = RATE * left**power
    np.testing.assert_allclose(found, warm(start, expected) if start else expected, atol=1e-6)
    assert found[59] > 0
    assert not found[60:].any()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_sgd_decays_and_accelerates_as_in_torch(nesterov, decay):
    """`g += decay p; v = 0.9 v + g; p -= rate (g + 0.9 v if nesterov else v)`, at falling rates."""
    text = f"add_decayed_weights(weight_decay={decay}) | sgd(momentum=0.9, nesterov={nesterov})"
    made = optimizer(text, lambda step: 0.1 / (1 + step))
    gradients = np.random.default_rng(0).normal(size=(3, 5))
    p, v = np.arange(5.0) - 2, np.zeros(5)
    params = jnp.asarray(p, jnp.float32)
    state = made.init(params)
    for step, g in enumerate(gradients):
        updates, state = made.update(jnp.asarray(g, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        g = g + decay * p
        v = 0.9 * v + g
        p = p - 0.1 / (1 + step) * (g + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(params, p, rtol=1e-5)


@pytest.mark.parametrize(("clip", "factor"), [(0.0, 1), (1.0, 1 / 5), (10.0, 1)])
def test_clipping_is_by_the_norm_of_all_gradients_before_weights_decay(clip, factor):
    made = optimizer("add_decayed_weights(weight_decay=0.5) | sgd", 1.0, clip)
    params, gradients = ({"a": jnp.ones(2) * x, "b": jnp.ones(1) * y} for x, y in ((2, 1), (0, 0)))
    gradients = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    updates, _ = made.update(gradients, made.init(params), params)
    np.testing.assert_allclose(updates["a"], [-3 * factor - 1, -1], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [-4 * factor - 0.5], rtol=1e-6)


@pytest.mark.parametrize("text", ["adamw(weight_decay=0.1)", "adam", "lamb"])
def test_other_optimizers_of_optax_are_called_with_their_arguments(text):
    made, params = optimizer(text, 0.1), jnp.arange(1.0, 4.0)
    name, _, rest = text.partition("(")
    plain = getattr(optax, name)(0.1, **({"weight_decay": 0.1} if rest else {}))
    found, expected = (m.update(params, m.init(params), params)[0] for m in (made, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "adam(b1=0.8) | by_part(parts={'head': 10.0})",
        "by_part(parts={'head': 10.0}) | adam(b1=0.8)",
        "by_part(parts={'head': 5.0}) | adam(b1=0.8) | by_part(parts={'head': 2, 'body': 1})",
    ],
)
def test_rates_of_parts_are_factors_of_what_any_optimizer_does(text):
    params = {"head": jnp.arange(1.0, 4.0), "body": jnp.ones(2)}
    made, plain = optimizer(text, lambda step: 0.1 / (1 + step)), optax.adam(0.1, b1=0.8)
    state, plain_state = made.init(params), plain.init(params)
    for step in range(3):
        found, state = made.update(params, state, params)
        expected, plain_state = plain.update(params, plain_state, params)
        for part, factor in {"head": 10, "body": 1}.items():
            rest = factor * np.asarray(expected[part]) / (1 + step)
            np.testing.assert_allclose(found[part], rest, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sgdd", f"unknown optimizer 'sgdd': name a function of optax, such as {EXAMPLE}."),
        ("__name__", f"unknown optimizer '__name__': name a function of optax, such as {EXAMPLE}."),
        ("nope | sgd", "unknown gradient transformation 'nope': name a function of optax, such as"),
        ("sgd | adam", "sgd is an optimizer: it must be the last, such as in"),
        ("sgd(speed=1)", "sgd has no 'speed'; it takes: learning_rate, momentum"),
        (
            "cosine_decay_schedule",
            "cosine_decay_schedule takes no learning rate: end with an optim",
        ),
        ("trace | sgd", "trace needs decay=, as in trace(decay=...)."),
        ("by_part(parts={'a': 1.0})", "unknown optimizer \"by_part(parts={'a': 1.0})\": name"),
        ("sgd | by_part", "by_part needs parts=, a dict of factors by part of the network that"),
        ("sgd | by_part(parts={'a': 1}, x=2)", "by_part has no 'x'; it takes: parts."),
        ("sgd | by_part({'a': 1})", "the link \" by_part({'a': 1})\" cannot be read: write a name"),
        ("sgd(0.1)", "the optimizer 'sgd(0.1)' cannot be read: write a name with keyword"),
        ("sgd(", "the optimizer 'sgd(' cannot be read: write a name with keyword arguments"),
        ("", "the optimizer '' cannot be read: write a name with keyword arguments"),
        ("sgd(momentum=open('x'))", "the optimizer \"sgd(momentum=open('x'))\" cannot be read"),
        (
            "sgd(momentum=[])",
            "cannot take a step with the optimizer 'sgd(momentum=[])': an argument is of a type",
        ),
        (
            "sgd(momentum={0: None})",
            "with the optimizer 'sgd(momentum={0: None})': an argument is of a type",
        ),
        ("sgd(**{})", "the optimizer 'sgd(**{})' cannot be read"),
        ("os.system(command='ls')", "cannot be read: write a name with keyword arguments"),
    ],
)
def test_optimizers_that_do_not_work_are_refused_in_a_sentence(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        optimizer(text, 0.1)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_what_somebodys_own_optimizer_raises_is_said_as_it_is(monkeypatch):
    def halved(learning_rate, by):
        return optax.sgd(learning_rate / by)

    monkeypatch.setitem(OPTIMIZERS, "halved", halved)
    with pytest.raises(ValueError, match=r"halved cannot make the optimizer .*unsupported operand"):
        optimizer("halved(by='two')", 0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear", "unknown schedule 'linear'; known are: constant, step, cosine, polynomial, "),
        ("step", "the schedule 'step' must have the arguments: epochs, factor, warmup, none"),
        ("step(epochs=3, factor=0.1)", "must have the arguments: epochs, factor, warmup"),
        ("step(epochs=(3,), factor='a')", "must have the arguments: epochs, factor, warmup"),
        ("step(epochs=(3,), factor=-1.0)", "factor, warmup, none of them negative."),
        ("cosine(alpha=1)", "the schedule 'cosine(alpha=1)' must have the arguments: warmup, none"),
        (
            "polynomial(power=-1)",
            "must have the arguments: power, start, warmup, none of them negat",
        ),
        ("polynomial(power='a')", "must have the arguments: power, start, warmup, none of them n"),
        ("polynomial(start=9)", "start, warmup, none of them negative and all in its 8 epochs."),
        ("ramps(up=1)", "the arguments: up, down, warmup, none of them negative and all in its 8"),
        ("ramps(up=5, down=5)", "none of them negative and all in its 8 epochs."),
        (
            "polynomial(end=1)",
            "the schedule 'polynomial(end=1)' must have the arguments: power, st",
        ),
        ("cosine(warmup=9)", "warmup in 'cosine(warmup=9)' must be from 0 to 8 epochs."),
        ("cosine(warmup=-1)", "warmup in 'cosine(warmup=-1)' must be from 0 to 8 epochs."),
        ("cosine(warmup='a')", "must be from 0 to 8 epochs."),
        ("cosine(5)", "the schedule 'cosine(5)' cannot be read: write a name with keyword"),
    ],
)
def test_schedules_that_do_not_work_are_refused_in_a_sentence(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        schedule(text, RATE, PER_EPOCH, EPOCHS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_decay_by_the_mask_of_kernels_is_that_of_l2():
    """`p -= rate (g + decay p)` where the array has two axes, else `p -= rate g`."""
    params = {
        "dense": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)},
        "norm": {"scale": jnp.full(2, 3.0)},
    }
    penalized = rj.parameters.penalized_arrays(params)
    assert [mask for mask in jax.tree.leaves(optimizers.kernels(params)) if mask] == [
        True for _ in penalized
    ]
    zeros = jax.tree.map(jnp.zeros_like, params)
    for text in (
        "add_decayed_weights(weight_decay=0.1, mask='kernels') | sgd",
        "adamw(weight_decay=0.1, mask='kernels')",
    ):
        made = optimizer(text, 0.5)
        updates, _ = made.update(zeros, made.init(params), params)
        np.testing.assert_allclose(updates["dense"]["kernel"], -0.5 * 0.1 * 3, rtol=1e-6)
        assert not np.any(updates["dense"]["bias"])
        assert not np.any(updates["norm"]["scale"])


def test_an_optimizer_of_ones_own_is_called_by_its_name_or_its_modules(monkeypatch):
    monkeypatch.setattr(optimizers, "OPTIMIZERS", {})

    @optimizers.register("sign_descent")
    def sign_descent(learning_rate, scale=1.0):
        """Steps of one length."""
        return optax.chain(
            optax.stateless(_signs), optax.scale(scale), optax.scale_by_learning_rate(learning_rate)
        )

    module = types.ModuleType("mine")
    module.sign_descent = sign_descent
    monkeypatch.setitem(sys.modules, "mine", module)
    for name in ("sign_descent", "mine:sign_descent"):
        made, params = optimizer(f"{name}(scale=2.0)", 0.1), jnp.zeros(2)
        updates, _ = made.update(jnp.array([3.0, -0.1]), made.init(params), params)
        np.testing.assert_allclose(updates, [-0.2, 0.2], rtol=1e-6)
    for text, message in (
        ("sgdd", "name a function of optax, such as .* or one of: sign_descent"),
        ("mine:sgd", "the module mine has no 'sgd'; .*sign_descent"),
        (
            "mine:sign_descent(scal=1)",
            "mine:sign_descent has no 'scal'; it takes: learning_rate, scale",
        ),
        ("adamw(mask='biases')", "mask must be one of: kernels, not 'biases'"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer(text, 0.1)
    with pytest.raises(ValueError, match="an optimizer named 'sgd' exists already"):
        optimizers.register("sgd")(sign_descent)


def _signs(updates, params):
    return jax.tree.map(jnp.sign, updates)
