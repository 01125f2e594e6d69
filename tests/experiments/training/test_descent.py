"""The training step: against NumPy, and whole against its parts.

Covers `gradients.py` and `steps.py` too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from support import assert_close, assert_same
from tiny_runs import EXAMPLE, Logits, batches, data, numbers, program, run, start, task

import regjax as rj
from experiments.rows import block, every
from experiments.training import gradients
from experiments.training.growth import read_curves
from experiments.training.steps import NEVER, advance, check, measure
from experiments.training.task import Rows, gather

SEED = 3


def forward(params, index):
    """The network in NumPy: inputs, features and logits."""
    x = np.asarray(data()["image"], np.float64)[index].reshape(len(index), -1) / 255
    features = np.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return x, features, features @ params["head"]["kernel"] + params["head"]["bias"]


def gradient(params, index, weight):
    """Of the weighted mean cross entropy, which is the second result."""
    x, features, logits = forward(params, index)
    label = np.eye(tiny_runs.CLASSES)[np.asarray(data()["label"])[index]]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    share = weight / weight.sum()
    delta = share[:, None] * (p - label)
    inner = (delta @ params["head"]["kernel"].T) * (1 - features**2)
    found = {
        "hidden": {"kernel": x.T @ inner, "bias": inner.sum(0)},
        "head": {"kernel": features.T @ delta, "bias": delta.sum(0)},
    }
    return found, share @ -np.log((p * label).sum(1))


def initial(chosen):
    return jax.tree.map(np.float64, chosen.build(jax.random.split(jax.random.key(SEED))[0]).params)


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(np.float64(leaf))) for leaf in jax.tree.leaves(tree)))


def test_steps_equal_sgd_written_out():
    index, weight = batches(0, 8, 3)[:2]
    weight = np.where(np.random.default_rng(1).random(weight.shape) < 0.3, 0, weight)
    weight[:, 0] = 0.5
    state, means, broken = run(task(), "cross_entropy", Rows(index, weight))
    params = initial(task())
    trace = jax.tree.map(np.zeros_like, params)
    totals, norms = [], []
    for i, w in zip(index, weight, strict=True):
        direction, total = gradient(params, i, w)
        trace = jax.tree.map(lambda t, g: 0.9 * t + g, trace, direction)
        params = jax.tree.map(lambda p, t: p - 0.1 * t, params, trace)
        totals.append(total)
        norms.append(norm(direction))
    assert_close(state.params, params)
    assert set(means) == {"total", "cross_entropy", "gradient_norm"}
    for name, values in (("total", totals), ("cross_entropy", totals), ("gradient_norm", norms)):
        np.testing.assert_allclose(means[name], np.mean(values), rtol=1e-5)
    assert set(map(int, broken.values())) == {int(NEVER)}
    assert state.step == state.loss_state.step == 3


def test_parts_of_a_batch_make_the_same_step_as_the_whole():
    """Of draws by example, statistics and weights: the parts have 2, 1, 0 and 1.5 examples."""
    index = batches(0, 8, 2).index
    weight = np.tile(np.float32([1, 1, 0, 0.5, 1, 0, 0, 1]), (2, 1))
    expression = "isda(strength=0.0) | l2(weight=0.1) | noise_injection(sigma=0.3)"
    whole, parts = (run(task(accumulate=n), expression, Rows(index, weight)) for n in (1, 4))
    assert_close(parts, whole)
    assert whole[0].loss_state.stages["isda"].seen.sum() == 2 * 4.5
    still = run(task(accumulate=1), expression.replace("0.3", "0.0"), Rows(index, weight))[0]
    assert not np.allclose(still.params["head"]["kernel"], whole[0].params["head"]["kernel"])


def test_padding_of_weight_zero_changes_nothing():
    index, weight = batches(0, 8, 2)[:2]
    other = index.copy()
    other[:, -2:] = 47 - index[:, -2:]
    weight[:, -2:] = 0
    expression = "cross_entropy | double_backprop(weight=0.1) | noise_injection(sigma=0.1)"
    results = [run(task(), expression, Rows(chosen, weight)) for chosen in (index, other)]
    assert_close(*results)


def floating(tree):
    return {x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)}


def products(jaxpr):
    """The types of the factors of all matrix products."""
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found |= {variable.aval.dtype for variable in equation.invars}
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                found |= products(getattr(inner, "jaxpr", inner))
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_are_taken_in_the_given_type(dtype):
    """Behind BatchNorm too, whose statistics are float32."""
    chosen, loss = task(dtype=jnp.dtype(dtype), norm=True), numbers("cross_entropy")
    rows = jax.tree.map(lambda x: x[0], batches(0, 8, 1))

    def step(state):
        return chosen.step(state, loss, chosen.batch(gather(data(), rows)), np.uint32(SEED))

    traced = jax.make_jaxpr(step)(start(chosen, loss, SEED))
    assert products(traced.jaxpr) == {jnp.dtype(dtype)}


def test_the_parts_of_a_batch_have_dropout_masks_of_their_own():
    forward = task(dropout=0.5).build(jax.random.key(0))
    salted = [gradients.salted(forward, lambda n=n: jnp.int32(n), block) for n in (0, 0, 1)]
    image = data()["image"][:8].astype(jnp.float32)
    first, again, other = (each(image, jax.random.key(1)).logits for each in salted)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_parts_of_a_batch_have_the_draws_of_the_whole():
    forward, image = task(shake=0.5).build(jax.random.key(0)), jnp.asarray(data()["image"][:8])

    def logits(images, part, parts):
        place = functools.partial(every, parts)
        within = gradients.salted(forward, lambda: jnp.int32(part), place)
        return np.asarray(within(images / 255, jax.random.key(1)).logits)

    whole = logits(image, 0, 1)
    assert not np.allclose(whole, forward(image / 255).logits)
    for part in (0, 1):
        np.testing.assert_allclose(logits(image[part::2], part, 2), whole[part::2], rtol=1e-5)


def test_bfloat16_keeps_its_state_in_float32_and_comes_close():
    rows = batches(0, 8, 3)
    low = task(dtype=jnp.dtype("bfloat16"), norm=True, decay=0.9)
    state, means, _ = run(low, "cross_entropy", rows)
    exact, exact_means, _ = run(task(norm=True, decay=0.9), "cross_entropy", rows)
    assert floating((state, means)) == {jnp.dtype("float32")}
    assert_close(state, exact, jnp.bfloat16)
    np.testing.assert_allclose(means["total"], exact_means["total"], rtol=0.02)


def test_bfloat16_keeps_statistics_in_float32():
    low, loss = task(dtype=jnp.dtype("bfloat16"), norm=True), numbers("isda(strength=0.5)")

    def steps():
        state = low.init(np.uint32(SEED), loss)
        rows = jax.tree.map(jnp.asarray, batches(0, 8, 1))
        return state, advance(low, data(), 1, state, loss, SEED, rows)

    for tree in jax.eval_shape(steps):
        assert floating(tree) == {jnp.dtype("float32")}


def test_an_update_is_clipped_to_the_norm():
    chosen = task("sgd", 1.0, clip=0.01)
    state, means, _ = run(chosen, "cross_entropy | l2(weight=1e4)", batches(0, 8, 1))
    moved = jax.tree.map(lambda a, b: np.float64(a) - b, state.params, initial(chosen))
    np.testing.assert_allclose(norm(moved), 0.01, rtol=1e-3)
    assert means["gradient_norm"] > 1e3


def test_the_average_of_parameters_is_what_predicts():
    chosen, loss = task(decay=0.8), numbers("cross_entropy")
    state = start(chosen, loss, SEED)
    average = initial(chosen)
    assert_same(state.average, state.params)
    for i, w in zip(*batches(0, 8, 3)[:2], strict=True):
        rows = Rows(i[None], w[None])
        state, *_ = program(chosen)(np.int32(1), state, loss, np.uint32(SEED), rows)
        average = jax.tree.map(lambda a, p: 0.8 * a + 0.2 * np.float64(p), average, state.params)
    assert_close(state.average, average)
    index = np.arange(12, dtype=np.int32)
    rows = Rows(index.reshape(3, 4), np.ones((3, 4), np.float32))
    logits = measure(chosen, Logits(), data(), state, rows)["logits"]
    assert_close(logits, forward(average, index)[2])
    latest = measure(task(), Logits(), data(), state, rows)["logits"]
    assert_close(latest, forward(jax.tree.map(np.float64, state.params), index)[2])
    assert not np.allclose(latest, logits, atol=1e-3)


def test_growing_numbers_reach_the_loss_and_share_one_program():
    chosen = task(growing=read_curves({"l2.weight": "linear"}, 1.0), steps=4)
    grow, rows = program(chosen), batches(0, 8, 1)
    for strength in (0.5, 2.0):
        loss = numbers(f"cross_entropy | l2(weight={strength})")
        state = start(chosen, loss, SEED)
        for step in range(3):
            state, means, _ = grow(np.int32(1), state, loss, np.uint32(SEED), rows)
            expected = means["cross_entropy"] + strength * step / 4 * means["l2"]
            np.testing.assert_allclose(means["total"], expected, rtol=1e-5)
    assert grow._cache_size() == 1


def test_the_first_step_that_breaks_is_told_by_name():
    @functools.partial(rj.penalty, init=lambda forward, batch, **_: jnp.zeros((), jnp.int32))
    def fragile(point, state, *, at):
        factor = jnp.where(state >= at, jnp.inf, 0.0)
        return factor * jnp.sum(point.outputs.logits), state + 1

    chosen, loss = task(), numbers("cross_entropy | fragile(weight=1.0, at=3)")
    state, rows = start(chosen, loss, SEED), batches(0, 8, 5)
    told = []
    for count in (2, 2, 5):  # calls that end before, at and after the break
        state, _, broken = program(chosen)(np.int32(count), state, loss, np.uint32(SEED), rows)
        told.append({name: int(step) for name, step in broken.items()})
    never = int(NEVER)
    assert set(told[0].values()) == {never}
    # The gradient breaks the parameters, and they the next step's cross entropy.
    assert told[1] == {"total": 3, "fragile": 3, "gradient_norm": 3, "cross_entropy": never}
    assert set(told[2].values()) == {4}


def test_equal_seeds_give_equal_networks_and_other_seeds_others():
    first, again, other = (
        task().init(np.uint32(s), numbers("cross_entropy")).params for s in (0, 0, 1)
    )
    assert_same(first, again)
    assert not np.allclose(first["head"]["kernel"], other["head"]["kernel"])


def test_a_loss_that_does_not_fit_is_refused_before_a_step():
    with pytest.raises(ValueError, match="frobenius's probes must be at least 1, but it is 0"):
        check(task(), EXAMPLE, rj.parse("cross_entropy | frobenius(weight=1, probes=0)"), 2)
    check(task(), EXAMPLE, rj.parse("isda(strength=0.5)"), 2)


def test_a_mean_by_image_is_refused_where_an_image_has_one_label():
    with pytest.raises(ValueError, match="by_image is for a label at every pixel"):
        check(task(by_image=True), EXAMPLE, rj.cross_entropy(), 2)


def teacher_of(forward, batch, **_):
    """A teacher's parameters, and how often it has moved."""
    return forward.params, jnp.zeros((), jnp.int32)


def define_teacher():
    @functools.partial(rj.penalty, init=teacher_of)
    def teacher(network, batch, state, *, decay):
        params, moves = state
        params = jax.tree.map(lambda t, p: decay * t + (1 - decay) * p, params, network.params)
        gap = network.replace(params=params)(batch.image).logits - network(batch.image).logits
        moved = jax.lax.stop_gradient((params, moves + 1))
        return (gap.astype(jnp.float32) ** 2).sum(-1), moved


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_loss_averages_is_float32_and_moves_once_a_step(dtype):
    define_teacher()
    expression, rows = "cross_entropy | teacher(weight=1.0, decay=0.9)", batches(0, 8, 3)
    found = {
        parts: run(task(dtype=jnp.dtype(dtype), accumulate=parts), expression, rows)[0]
        for parts in (1, 4)
    }
    for state in found.values():
        params, moves = state.loss_state.stages["teacher"]
        assert floating(params) == {jnp.dtype("float32")}
        assert moves == 3
    whole, parts = (found[n].loss_state.stages["teacher"][0] for n in (1, 4))
    assert_close(parts, whole, jnp.dtype(dtype))
    if dtype == "bfloat16":  # it would not move by less than a thousandth
        exact = run(task(), expression, rows)[0].loss_state.stages["teacher"][0]
        assert_close(whole, exact, jnp.bfloat16)
        first = initial(task())
        moved = np.abs(whole["head"]["kernel"] - first["head"]["kernel"])
        assert (moved[moved > 0] < 1e-3).any()
