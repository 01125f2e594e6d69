"""What holds of every attack: whatever the gradient, in and out of a trace, whatever is given."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_same

import regjax as rj
from regjax import attacks
from regjax.attacks import threat

KEY = jax.random.key(0)
SHAPE = (3, 2, 1)
IMAGE = np.random.default_rng(0).uniform(size=(4, *SHAPE)).astype(np.float32).round(1)
BATCH = rj.Batch(jnp.asarray(IMAGE), jnp.eye(3)[jnp.arange(4) % 3], jnp.arange(4))

ATTACKS = {
    "fgsm": attacks.fgsm,
    "mim": functools.partial(attacks.mim, steps=2),
    "linf": functools.partial(attacks.pgd, key=KEY, steps=2),
    "l2": functools.partial(attacks.pgd, key=KEY, steps=2, norm="l2"),
    "apgd": functools.partial(attacks.apgd, key=KEY, steps=2, loss="dlr"),
    "square": functools.partial(attacks.square, key=KEY, steps=2, norm="l2"),
    "cw_l2": lambda *args, epsilon, **options: attacks.cw_l2(
        *args, confidence=epsilon, steps=2, search_steps=1, **options
    )[0],
}


LOGITS = np.random.default_rng(4).normal(size=(9, 5))
LABEL = np.arange(9) % 5


def test_the_difference_of_logits_ratio() -> None:
    expected, aimed = [], []
    for z, y in zip(LOGITS, LABEL, strict=True):
        falling = np.sort(z)[::-1]
        expected.append(-(z[y] - np.delete(z, y).max()) / (falling[0] - falling[2]))
        target = (y + 2) % 5
        aimed.append(-(z[y] - z[target]) / (falling[0] - (falling[2] + falling[3]) / 2))
    logits, label = jnp.asarray(LOGITS, jnp.float32), jnp.eye(5)[LABEL]
    for scale in (1.0, 1e4):  # neither scale nor shift changes it
        np.testing.assert_allclose(threat.dlr(scale * logits + 3, label), expected, rtol=2e-4)
    found = threat.targeted_dlr(logits, label, jnp.asarray((LABEL + 2) % 5))
    np.testing.assert_allclose(found, aimed, rtol=1e-5)
    assert_same(threat.dlr(jnp.ones((1, 5)), label[:1]), jnp.zeros(1))


@jax.custom_vjp
def spoilt(image: jax.Array, gradient: jax.Array) -> jax.Array:
    """The image, with a gradient that may be anything in half of its pixels."""
    return image


spoilt.defvjp(
    lambda image, gradient: (image, gradient),
    lambda gradient, g: (g.at[:, 0].set(gradient), jnp.zeros(())),
)


def network(params: Any, x: jax.Array) -> jax.Array:
    return spoilt(x, params["gradient"]).reshape(len(x), -1) @ params["kernel"]


def forward(gradient: float = 0.0) -> rj.Forward:
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(6, 3)), jnp.float32)
    return rj.from_function(network, {"kernel": kernel, "gradient": jnp.float32(gradient)})


@functools.cache
def jitted(name: str) -> Any:
    return jax.jit(lambda *args: ATTACKS[name](*args, epsilon=0.1))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("gradient", [np.nan, np.inf, -np.inf, 0.0])
def test_pixels_stay_within_the_bounds_whatever_the_gradient(name: str, gradient: float) -> None:
    image = np.asarray(jitted(name)(forward(gradient), BATCH))
    assert np.all((image >= 0) & (image <= 1))
    if name != "cw_l2":
        assert np.all(np.abs(image - IMAGE) <= 0.1 + 1e-6)


def test_a_pixel_without_a_gradient_is_kept_and_the_others_are_moved() -> None:
    image = np.asarray(jitted("fgsm")(forward(np.nan), BATCH))
    assert_same(image[:, 0], IMAGE[:, 0])
    assert np.all(np.abs(image[:, 1:] - IMAGE[:, 1:]).max((1, 2, 3)) > 0.09)


@pytest.mark.parametrize("name", ["fgsm"])
def test_rounding_beyond_the_bounds_is_clipped_in_and_out_of_a_trace(name: str) -> None:
    beyond = BATCH.replace(image=BATCH.image.at[0, 0].set(-3e-8).at[1, 1].set(1 + 2.4e-7))
    within = BATCH.replace(image=jnp.clip(beyond.image, 0, 1))
    eager = ATTACKS[name](forward(), beyond, epsilon=0.1)
    assert jnp.all((eager >= 0) & (eager <= 1))
    assert_same(jitted(name)(forward(), beyond), jitted(name)(forward(), within))
    np.testing.assert_allclose(eager, jitted(name)(forward(), beyond), atol=1e-6)
    with pytest.raises(ValueError, match=r"reach from -9.9.*e-06 to"):
        ATTACKS[name](forward(), beyond.replace(image=beyond.image.at[0, 0].set(-1e-5)), epsilon=0)
    with pytest.raises(ValueError, match="reach from nan to nan"):
        ATTACKS[name](forward(), beyond.replace(image=beyond.image.at[0, 0].set(np.nan)), epsilon=0)


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_no_number_is_refused_in_one_sentence(name: str) -> None:
    attack = functools.partial(ATTACKS[name], forward(), BATCH)
    with pytest.raises(TypeError, match=r"must be one number, such as 8 / 255, got '8/255'\.$"):
        attack(epsilon="8/255")
    with pytest.raises(TypeError, match=r"must be one number, such as 8 / 255, got \[0\.1\]\.$"):
        attack(epsilon=[0.1])
    for low in (jnp.zeros(3), np.zeros((1, 1, 3)), (0, 0, 0), "0"):
        with pytest.raises(TypeError, match=r"needs low= and high= as Python numbers"):
            attack(epsilon=0.1, low=low)
    with pytest.raises(ValueError, match="must not be negative, but it is nan"):
        attack(epsilon=float("nan"))


UNLABELLED = {
    **{name: ATTACKS[name] for name in ("fgsm", "mim", "linf", "cw_l2")},
    "targeted": functools.partial(attacks.apgd, key=KEY, steps=2, loss="targeted_dlr"),
    "autoattack": functools.partial(attacks.autoattack, key=KEY, steps=2, queries=2),
    "ddn": lambda *args, epsilon, **options: attacks.ddn(*args, steps=2, **options)[0],
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_an_image_without_a_label_is_kept_and_the_others_are_attacked(name: str) -> None:
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32)
    forward = rj.from_function(lambda p, x: x.reshape(len(x), -1) @ p, kernel)
    right = jax.nn.one_hot(jnp.argmax(forward(BATCH.image).logits, -1), 4)
    attack = jax.jit(lambda batch: UNLABELLED[name](forward, batch, epsilon=0.2))
    found = attack(BATCH.replace(label=right.at[1::2].set(0)))
    assert_same(found[1::2], BATCH.image[1::2])
    assert_same(found[::2], attack(BATCH.replace(label=right))[::2])
    assert jnp.any(found[::2] != BATCH.image[::2]) or name == "cw_l2"
