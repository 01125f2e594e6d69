"""The Pi-model and the entropy on unlabelled images, by hand in float64; covers `second.py` too."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward, tanh_params

import regjax as rj
from regjax.consistency import prediction_entropy

pytestmark = pytest.mark.usefixtures("x64")
KEY = jax.random.key(5)


def params_of() -> dict[str, Any]:
    return tanh_params(dtype=jnp.float64)


def both_streams() -> rj.Batch:
    unlabeled = random_batch(8, seed=2, dtype=jnp.float64)
    unlabeled = unlabeled.replace(label=0 * unlabeled.label)
    return random_batch(4, dtype=jnp.float64).replace(unlabeled=unlabeled)


def applied(
    text: str, forward: rj.Forward | None = None, batch: rj.Batch | None = None
) -> rj.Result:
    loss, batch = rj.parse(text), both_streams() if batch is None else batch
    forward = tanh_forward(params_of()) if forward is None else forward
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


@pytest.mark.parametrize("stage", ["pi_model", "mean_teacher"])
@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ("random_flip", r"shared must be a tuple of names, such as \('random_flip',\)"),
        (3, "shared must be a tuple of names"),
        (("random_flop",), "no wrapper 'random_flop'"),
        (("isda",), "no wrapper 'isda'"),
    ],
)
def test_names_of_no_wrapper_are_refused(stage: str, shared: Any, said: str) -> None:
    loss = getattr(rj, stage)(rj.cross_entropy(), weight=1.0, shared=shared)
    batch = random_batch(4).replace(unlabeled=random_batch(4))
    with pytest.raises((TypeError, ValueError), match=said):
        jax.eval_shape(loss.apply, loss.init(tanh_forward(), batch), tanh_forward(), batch, KEY)


def slope_of_second_view(both: bool) -> tuple[jax.Array, list[np.ndarray]]:
    """Of the distance by a shift of the logits that only the second view has; and the logits."""
    seen: list[jax.Array] = []

    def objective(shift: jax.Array) -> jax.Array:
        seen.clear()

        def network(params: None, x: jax.Array) -> jax.Array:
            seen.append(jnp.sin(x.reshape(len(x), -1))[:, :3])
            return seen[-1] + (shift if len(seen) == 3 else 0 * shift)[None]

        text = f"cross_entropy | noise_injection(sigma=0.5) | pi_model(weight=1, both={both})"
        result = applied(text, rj.from_function(network, None))
        return result.unlabeled["pi_model"].sum()

    slope = jax.grad(objective)(jnp.zeros(3))
    return slope, [np.float64(z) for z in seen[1:]]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_gradients_flow_through_both_views_unless_told_otherwise() -> None:
    """Into the second by the formula of the first, `2/C q_j [(q-p)_j - sum_k q_k (q-p)_k]`."""
    slope, (first, second) = slope_of_second_view(both=True)
    p, q = softmax(first), softmax(second)
    d = q - p
    expected = 2 / 3 * q * (d - (q * d).sum(-1, keepdims=True))
    assert np.abs(expected.sum(0)).max() > 1e-3
    assert_close(slope, expected.sum(0), jnp.float64)
    assert_same(slope_of_second_view(both=False)[0], jnp.zeros(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight", "effective"), [(100.0, {1: 2.0, 2: 4.0, 4: 8.0}), (30.0, {1: 0.6, 2: 1.2, 4: 2.4})]
)
def test_the_papers_mixed_batches_are_a_share_of_our_total(
    weight: float, effective: dict[int, float]
) -> None:
    """Of B images M/N B have labels; theirs is `sum CE / B + w M/N mean d`, ours that by N/M.

    The weights w M/N are those of 1,000, 2,000 and 4,000 labels of 50,000.
    """
    images, size = random_batch(50, dtype=jnp.float64), 50
    text = f"cross_entropy | noise_injection(sigma=0.5) | pi_model(weight={weight})"
    for labels, share in effective.items():
        first = images.replace(
            image=images.image[:labels],
            label=images.label[:labels],
            index=images.index[:labels],
            weight=None,
        )
        batch = first.replace(unlabeled=images.replace(label=0 * images.label, weight=None))
        seen: list[jax.Array] = []

        def network(params: None, x: jax.Array, seen: list[jax.Array] = seen) -> jax.Array:
            seen.append(x.reshape(len(x), -1)[:, :3])
            return seen[-1]

        result = applied(text, rj.from_function(network, None), batch)
        given = result.outputs.logits, *seen[-2:]
        p, one, other = (softmax(np.float64(z)) for z in given)
        entropies = -(np.float64(first.label) * np.log(p)).sum(-1)
        theirs = entropies.sum() / size + share * ((one - other) ** 2).mean()
        assert_close(labels / size * rj.total(result, batch), theirs, jnp.float64)


def test_without_any_label_the_total_is_the_terms_of_unlabelled_images() -> None:
    batch = both_streams()
    batch = batch.replace(label=0 * batch.label)
    result = applied("cross_entropy | entropy(weight=2)", batch=batch)
    p = softmax(np.float64(tanh_forward(params_of())(batch.unlabeled.image).logits))
    expected = -2 * (p * np.log(p)).sum(-1).mean()
    assert_close(rj.total(result, batch), expected, jnp.float64)


def test_balance_counts_the_entropy_of_the_mean_prediction() -> None:
    """Mean and slope of `mean_i H(p_i) - b H(mean_i p_i)`, by weight, in NumPy, without padding."""
    batch = both_streams()
    weight = np.array([1, 1, 0.5, 1, 2, 1, 0, 0])
    image = batch.unlabeled.image.at[-1].set(9.0)
    unlabeled = batch.unlabeled.replace(weight=jnp.asarray(weight), image=image)
    batch = batch.replace(label=0 * batch.label, unlabeled=unlabeled)
    params = params_of()

    def by_hand(move: float) -> float:
        moved = params | {"head": params["head"] | {"bias": params["head"]["bias"] + move * along}}
        p = softmax(np.float64(tanh_forward(moved)(image[:-1]).logits))
        share = weight[:-1, None] / weight.sum()
        mean = (share * p).sum(0)
        return -(share * p * np.log(p)).sum() + 4 * (mean * np.log(mean)).sum()

    def total(move: jax.Array) -> jax.Array:
        moved = params | {"head": params["head"] | {"bias": params["head"]["bias"] + move * along}}
        text = "cross_entropy | entropy(weight=0.3, balance=4)"
        return rj.total(applied(text, tanh_forward(moved), batch), batch)

    along = np.array([1.0, -2.0, 0.5])
    value, slope = jax.value_and_grad(total)(0.0)
    assert_close(value, 0.3 * by_hand(0.0), jnp.float64)
    expected = 0.3 * (by_hand(1e-5) - by_hand(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, expected, rtol=1e-7)


@pytest.mark.parametrize("balance", [0.0, 1.0])
@pytest.mark.parametrize("only", ["padding", "class of padding", "class of one, all but 0"])
def test_a_mean_prediction_of_0_harms_nothing(only: str, balance: float) -> None:
    """No image counts; or a class is in padding alone, or lost below the smallest float."""
    image = np.zeros((4, 3), np.float32)
    image[-1, 0] = 60 if only == "class of one, all but 0" else 200
    image[:-1, 1] = 200 if only == "class of padding" else 147
    weight = jnp.zeros(4) if only == "padding" else jnp.array([1.0, 1, 1, 0])
    batch = random_batch(4)
    unlabeled = rj.Batch(jnp.asarray(image), jnp.zeros((4, 3)), weight=weight)
    batch = rj.Batch(jnp.zeros((4, 3)), batch.label, unlabeled=unlabeled)

    def total(scale: jax.Array) -> jax.Array:
        forward = rj.from_function(lambda s, x: s * x, scale)
        text = f"cross_entropy | entropy(weight=1, balance={balance})"
        return rj.total(applied(text, forward, batch), batch)

    assert np.isfinite(jnp.stack(jax.value_and_grad(total)(jnp.float32(1)))).all()


def test_equal_views_are_not_apart() -> None:
    def value(params: dict) -> jax.Array:
        return (
            applied("cross_entropy | pi_model(weight=1)", tanh_forward(params))
            .unlabeled["pi_model"]
            .sum()
        )

    found, slope = jax.value_and_grad(value)(params_of())
    assert found == 0
    assert_same(slope, jax.tree.map(jnp.zeros_like, slope))


def test_wrappers_that_are_shared_draw_alike() -> None:
    text = "cross_entropy | random_flip | pi_model(weight=1, shared={})"
    assert_same(applied(text.format("('random_flip',)")).unlabeled["pi_model"], jnp.zeros(8))
    assert jnp.any(applied(text.format("()")).unlabeled["pi_model"] > 0)


def test_the_distance_is_that_of_two_draws() -> None:
    seen: list[jax.Array] = []

    def network(params: None, x: jax.Array) -> jax.Array:
        seen.append(x)
        return x.reshape(len(x), -1)[:, :3]

    text = "cross_entropy | noise_injection(sigma=0.5) | pi_model(weight=1)"
    result = applied(text, rj.from_function(network, None))
    views = [x.reshape(len(x), -1)[:, :3] for x in seen[-2:]]
    distances = ((softmax(np.float64(views[0])) - softmax(np.float64(views[1]))) ** 2).mean(-1)
    assert_close(result.unlabeled["pi_model"], distances, jnp.float64)
    assert jnp.all(views[0] != views[1])


@pytest.mark.slow
def test_penalties_of_the_first_view_share_its_pass() -> None:
    text = "isda(strength=0.5) | entropy(weight=1) | entropy(weight=2)"
    text += " | semantic_consistency(weight=1)"
    batch, passes = both_streams(), []

    def network(params: dict, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        passes.append(len(x))
        features = jnp.tanh(x.reshape(len(x), -1) @ params["w"])
        return features @ params["head"], features

    params = {"w": jnp.ones((8, 5)) / 4, "head": jnp.eye(5)[:, :3]}
    forward = rj.from_function(network, params, head=lambda p: (p["head"], None))
    loss = rj.parse(text)
    state = loss.init(forward, batch)
    passes.clear()
    result, _ = loss.apply(state, forward, batch, KEY)
    assert passes.count(8) == 1
    expected = prediction_entropy(forward(batch.unlabeled.image).logits)
    assert_close(result.unlabeled["entropy"], expected)
    assert_close(result.unlabeled["entropy_2"], 2 * expected)


@pytest.mark.parametrize(("averages", "labelled_only"), [("moved", False), ("kept", True)])
def test_the_first_view_moves_averages_after_the_batch(averages: str, labelled_only: bool) -> None:
    def network(params: None, state: jax.Array, x: jax.Array) -> rj.Outputs:
        z = x.reshape(len(x), -1)[:, :3]
        return rj.Outputs(z, state=0.9 * state + 0.1 * z.mean())

    apply = lambda params, state, x, key, tap, frozen: network(params, state, x)  # noqa: E731
    forward = rj.Forward(None, jnp.float64(2.0), apply)
    batch = both_streams()
    text = f"cross_entropy | entropy(weight=1, averages='{averages}')"
    found = applied(text, forward, batch).outputs.state
    first, second = (
        np.float64(b.image).reshape(-1, 8)[:, :3].mean() for b in (batch, batch.unlabeled)
    )
    after_batch = 0.9 * 2.0 + 0.1 * first
    expected = after_batch if labelled_only else 0.9 * after_batch + 0.1 * second
    assert_close(found, expected, jnp.float64)


def test_what_is_missing_or_unknown_is_said() -> None:
    plain = random_batch(4, dtype=jnp.float64)
    with pytest.raises(ValueError, match=r"pi_model needs batch\.unlabeled"):
        applied("cross_entropy | pi_model(weight=1)", batch=plain)
    with pytest.raises(ValueError, match="averages must be 'moved' or 'kept', but it is 'no'"):
        applied("cross_entropy | entropy(weight=1, averages='no')")
