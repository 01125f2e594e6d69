"""Stages of one's own in a few lines, and the errors that meet whoever mistypes one.

Covers `definitions.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import assert_close, random_batch, tanh_forward

import regjax as rj

KEY = jax.random.key(0)


def run(loss: rj.Loss, state: rj.LossState | None = None) -> tuple[rj.Result, rj.LossState]:
    batch, forward = random_batch(4), tanh_forward()
    state = loss.init(forward, batch) if state is None else state
    return loss.apply(state, forward, batch, KEY)


# Stages of one's own.


@rj.base
def squared_distance(outputs, batch, *, weight=1.0):
    return weight * jnp.sum((jax.nn.softmax(outputs.logits) - batch.label) ** 2, axis=-1)


@rj.wrapper
def brightened(forward, batch, *, weight: rj.Number, channels: tuple[int, ...] = (0,)):
    """Brightens."""
    return forward, batch.replace(image=batch.image.at[..., channels].add(weight))


@rj.penalty
def logit_power(point, *, order: int = 2):
    return jnp.sum(jnp.abs(point.outputs.logits) ** order, axis=-1)


def test_a_base_a_wrapper_and_a_penalty_of_ones_own() -> None:
    loss = logit_power(brightened(squared_distance(weight=2.0), weight=0.5), weight=0.1, order=1)
    text = (
        "squared_distance(weight=2.0) | brightened(weight=0.5) | logit_power(weight=0.1, order=1)"
    )
    assert repr(loss) == text
    assert rj.parse(text) == loss
    result, _ = run(loss)
    logits = tanh_forward()(random_batch(4).image + 0.5).logits
    assert_close(result.penalties["logit_power"], 0.1 * jnp.sum(jnp.abs(logits), -1))
    expected = 2 * jnp.sum((jax.nn.softmax(logits) - random_batch(4).label) ** 2, -1)
    assert_close(result.losses, expected)
    assert set(result.metrics) == {"squared_distance", "logit_power"}


def test_stateful_stages_of_every_kind() -> None:
    def zeros(forward, batch, *, decay):
        return jnp.zeros((batch.label.shape[-1],)) + decay

    @rj.base(init=zeros)
    def centred(outputs, batch, state, *, decay):
        mean = decay * state + (1 - decay) * jnp.mean(outputs.logits, 0)
        return jnp.sum((outputs.logits - mean[None]) ** 2, -1), mean

    @rj.wrapper(init=lambda forward, batch: jnp.zeros((), jnp.int32))
    def counting(forward, batch, state):
        return (forward, batch), state + 1

    @rj.penalty(init=zeros)
    def drift(point, state, *, decay):
        return jnp.sum(state), decay * state

    half = optax.constant_schedule(0.5)
    loss = drift(counting(centred(decay=0.5)), weight=0.1, decay=half)
    result, state = run(loss)
    assert set(state.stages) == {"centred", "counting", "drift"}
    assert (state.step, state.stages["counting"]) == (1, 1)
    assert_close(state.stages["centred"], 0.25 + 0.5 * jnp.mean(result.outputs.logits, 0))
    assert_close(result.penalties["drift"], jnp.asarray(0.15))  # init was given the schedule at 0
    _, state = jax.jit(lambda state: run(loss, state))(state)
    assert (state.step, state.stages["counting"]) == (2, 2)
    assert_close(state.stages["drift"], jnp.full(3, 0.125))


def test_stages_of_every_kind_are_given_the_step() -> None:
    @rj.base
    def at_base(outputs, step):
        return jnp.full(len(outputs.logits), step, float)

    @rj.wrapper
    def at_wrapper(forward, batch, step):
        return forward, batch.replace(weight=batch.weight * (step + 1))

    @rj.penalty
    def at_penalty(point, step):
        return 10.0 * step + 0 * jnp.sum(point.outputs.logits)

    loss = at_penalty(at_wrapper(at_base()), weight=1.0)
    forward, batch = tanh_forward(), random_batch()
    for step in (0, 3):
        state = loss.init(forward, batch)._replace(step=jnp.int32(step))
        result, _ = loss.apply(state, forward, batch, jax.random.key(0), part=1)
        assert jnp.all(result.losses == step)
        assert jnp.all(result.weight == step + 1)
        assert result.penalties["at_penalty"] == 10 * step


def test_running_a_cell_again_redefines_its_stage() -> None:
    def cell(factor):
        @rj.penalty
        def redefined(point):
            return jnp.full((), factor)

        return redefined

    first, second = cell(1.0)(rj.cross_entropy(), weight=1), cell(2.0)(rj.cross_entropy(), weight=1)
    assert [run(loss)[0].penalties["redefined"] for loss in (first, second)] == [1.0, 2.0]
    assert rj.parse(repr(first)) == second


def test_a_penalty_may_return_a_plain_number() -> None:
    @rj.penalty
    def nothing(point):
        return 0.0

    assert run(nothing(rj.cross_entropy(), weight=1.0))[0].penalties["nothing"] == 0.0


def test_numbers_are_floats_arrays_or_schedules() -> None:
    schedule = optax.linear_schedule(0.0, 1.0, 4)
    for value, leaves in ((1, [1.0]), (jnp.float32(0.5), [0.5]), (schedule, [])):
        loss = rj.l2(rj.cross_entropy(), weight=value)
        assert jax.tree.leaves(loss) == leaves


def test_a_strength_may_be_traced_and_differentiated() -> None:
    def total(weight):
        return rj.total(run(rj.l2(rj.cross_entropy(), weight=weight))[0], random_batch(4))

    squares = run(rj.l2(rj.cross_entropy(), weight=1))[0].penalties["l2"]
    assert_close(jax.grad(total)(0.5), squares)
    assert_close(jax.jit(total)(0.5), total(0.5))


def test_static_arguments_are_python_values() -> None:
    loss = rj.jacobian(rj.cross_entropy(), weight=1, probes=np.int64(2))
    assert loss == rj.jacobian(rj.cross_entropy(), weight=1, probes=2) == rj.parse(repr(loss))
    listed = rj.l1(rj.cross_entropy(), weight=1, exclude=["bias", "head"])
    assert repr(listed) == "cross_entropy | l1(weight=1.0, exclude=('bias', 'head'))"


# Mistakes in using a stage.


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rj.l2(rj.cross_entropy, weight=1), r"l2 acts on one loss.*call it, cross_entropy"),
        (lambda: rj.l2(weight=1), r"one loss, such as .*cross_entropy\(\).*given no loss"),
        (lambda: rj.l2(rj.cross_entropy(), 1), r"by keyword \(weight, exclude\).*cross_entropy, 1"),
        (lambda: rj.l2("cross_entropy", weight=1), r"acts on one loss.*'cross_entropy'"),
        (lambda: rj.l2(rj.cross_entropy()), r"l2 needs the argument 'weight'.*weight, exclude"),
        (lambda: rj.l2(rj.cross_entropy(), strength=1), r"no argument 'strength'.*weight, exclude"),
        (lambda: rj.l2(rj.cross_entropy(), weight="1"), r"weight must be a number.*'1'"),
        (lambda: rj.l2(rj.cross_entropy(), weight=None), r"weight must be a number.*None"),
        (lambda: rj.l2(rj.cross_entropy(), weight=True), r"weight must be a number.*True"),
        (lambda: rj.l2(rj.cross_entropy(), weight=1j), r"weight must be a number.*1j"),
        (lambda: rj.l2(rj.cross_entropy(), weight=rj.cross_entropy), r"must be a number"),
        (lambda: rj.l2(rj.cross_entropy(), weight=rj.cross_entropy()), r"must be a number"),
        (lambda: rj.cross_entropy(rj.cross_entropy()), r"cross_entropy starts a loss"),
        (lambda: rj.cross_entropy(smoothing=0.1), r"no argument 'smoothing'.*are: auxiliary"),
        (lambda: rj.l1(rj.cross_entropy(), weight=1, exclude={"bias"}), r"exclude.*hashable.*bias"),
        (
            lambda: rj.jacobian(rj.cross_entropy(), weight=1, probes=jnp.ones(2)),
            r"jacobian's probes.*hashable",
        ),
    ],
)
def test_wrong_arguments(call, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -np.inf, 10**400, jnp.inf])
def test_numbers_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="l2's weight must be finite"):
        rj.l2(rj.cross_entropy(), weight=value)


def test_stacked_losses_need_vmap() -> None:
    loss = rj.l2(rj.cross_entropy(), weight=jnp.ones(4))
    with pytest.raises(ValueError, match=r"l2's weight must be a scalar.*float32\[4\].*jax\.vmap"):
        run(loss)


@pytest.mark.parametrize("probes", [0, -1, 1.5, "1"])
def test_probes_that_are_none(probes) -> None:
    with pytest.raises(
        ValueError, match=rf"probes must be (at least 1|None or a whole number).*{probes}"
    ):
        run(rj.jacobian(rj.cross_entropy(), weight=1, probes=probes))


def test_options_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"power must be between 1 and 2.*3"):
        run(rj.hessian_frobenius(rj.cross_entropy(), weight=1, power=3))
    with pytest.raises(ValueError, match=r"'batch' or 'frozen'.*'running'"):
        run(rj.double_backprop(rj.cross_entropy(), weight=1, batch_norm="running"))
    with pytest.raises(ValueError, match=r"exclude names \['head', 'stem'\]|\['stem'\].*bias"):
        run(rj.l2(rj.cross_entropy(), weight=1, exclude=("stem",)))


# Mistakes in defining one.


def test_definitions_that_ask_for_what_there_is_not() -> None:
    with pytest.raises(TypeError, match=r"penalty own asks for 'model'.*given point, batch.*'\*'"):

        @rj.penalty
        def own(model):
            return 0.0

    with pytest.raises(TypeError, match=r"wrapper other asks for 'sigma'.*keyword-only"):

        @rj.wrapper
        def other(forward, batch, sigma):
            return forward, batch

    with pytest.raises(TypeError, match=r"base third asks for 'kwargs'"):

        @rj.base
        def third(outputs, **kwargs):
            return 0.0


def test_definitions_that_cannot_be_named() -> None:
    with pytest.raises(TypeError, match=r"by name.*<lambda>.*'def'"):
        rj.penalty(lambda point: point.outputs.logits)
    with pytest.raises(ValueError, match=r"named l2 exists already in regjax\.parameters"):

        @rj.penalty
        def l2(point):
            return 0.0

    assert rj.parse("cross_entropy | l2(weight=1)") == rj.l2(rj.cross_entropy(), weight=1)


def test_definitions_with_a_weight_of_their_own_or_half_a_state() -> None:
    with pytest.raises(TypeError, match=r"penalty doubly must not take 'weight'"):

        @rj.penalty
        def doubly(point, *, weight):
            return weight

    with pytest.raises(TypeError, match=r"base half must ask for 'state'.*init="):

        @rj.base
        def half(outputs, state):
            return outputs.logits, state

    with pytest.raises(TypeError, match=r"wrapper idle must ask for 'state'.*init="):

        @rj.wrapper(init=lambda forward, batch: 0)
        def idle(forward, batch):
            return forward, batch


def test_results_that_are_none() -> None:
    @rj.base
    def unsummed(outputs, batch):
        return outputs.logits

    @rj.base
    def averaged(outputs, batch):
        return jnp.mean(outputs.logits)

    @rj.penalty
    def forgetful(point):
        pass

    @rj.penalty
    def unreduced(point):
        return point.outputs.logits

    @rj.wrapper
    def batch_only(forward, batch):
        return batch

    @rj.penalty(init=lambda forward, batch: jnp.zeros(()))
    def keeps_no_state(point, state):
        return state

    plain = rj.cross_entropy()
    for loss, error, words in [
        (unsummed(), ValueError, r"unsummed must return \[4\].*float32\[4, 3\]"),
        (averaged(), ValueError, r"averaged must return \[4\].*float32\[\]"),
        (forgetful(plain, weight=1), TypeError, r"forgetful must return \[4\].*scalar.*NoneType"),
        (unreduced(plain, weight=1), ValueError, r"unreduced must return.*float32\[4, 3\]"),
        (batch_only(plain), TypeError, r"batch_only must return \(forward, batch\).*Batch"),
        (keeps_no_state(plain, weight=1), TypeError, r"keeps_no_state.*\(value, state\)"),
    ]:
        with pytest.raises(error, match=words):
            run(loss)


@rj.penalty
def optional_numbers(
    point, *, by: "float | None" = None, offset: "rj.Number | None" = None
) -> jax.Array:
    return jnp.ones(()) * (1.0 if by is None else by) + (0.0 if offset is None else offset)


def test_a_number_may_be_annotated_as_a_union_and_default_to_none() -> None:
    plain = optional_numbers(rj.cross_entropy(), weight=1.0)
    assert repr(plain) == "cross_entropy | optional_numbers(weight=1.0)"
    assert run(plain)[0].penalties["optional_numbers"] == 1.0
    given = optional_numbers(rj.cross_entropy(), weight=1.0, by=jnp.float32(3.0), offset=0.5)
    assert len(jax.tree.leaves(given)) == 3
    assert run(given)[0].penalties["optional_numbers"] == 3.5
