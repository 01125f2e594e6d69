"""AutoAugment and RandAugment: what is drawn, for which image, and what images are to them."""

import functools
import itertools
from collections import Counter, defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_pillow import changed, photographs
from scipy import stats
from support import assert_close, assert_same, tanh_forward
from support import random_batch as tanh_batch

import regjax as rj
from regjax.augment.magnitudes import NAMES, RAND
from regjax.augment.policies import policy
from regjax.core.loss import named_key

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
RAND_ONE = "rand_augment(operations=1, magnitude=30)"
SLOW = pytest.mark.slow


def augmented(expression: str, image: jax.Array, **fields: jax.Array) -> jax.Array:
    """The images after a stage."""
    stage = rj.parse(f"cross_entropy | {expression}").stages[1]
    batch = rj.Batch(image, jnp.ones((len(image), 2)) / 2, **fields)
    return stage.definition.function(None, batch, jax.random.key(0), **stage.arguments)[1].image


@functools.partial(jax.jit, static_argnums=0)
def levels(expression: str, image: jax.Array, index: jax.Array) -> jax.Array:
    """Levels after a stage of images of levels."""
    changed = augmented(expression, image.astype(jnp.float32) / 255, index=index)
    return jnp.round(changed * 255).astype(jnp.uint8)


def outcomes(image: np.ndarray, expression: str) -> dict[bytes, float]:
    """By Pillow, every result that an image can have, with its chance."""
    chances: dict[bytes, float] = defaultdict(float)
    if expression == RAND_ONE:
        for name, sign in itertools.product(RAND, (-1, 1)):
            chances[changed(image, name, 30, 31, sign, False).tobytes()] += 1 / 28
        return chances
    for (first, second), signs in itertools.product(
        policy("cifar10", False), itertools.product((-1, 1), repeat=2)
    ):
        for used in itertools.product((False, True), repeat=2):
            after, chance = image, 1 / 100
            for (name, share, level), sign, each in zip((first, second), signs, used, strict=True):
                chance *= share if each else 1 - share
                after = changed(after, name, level, 10, sign, False) if each else after
            chances[after.tobytes()] += chance
    return chances


@pytest.mark.parametrize("expression", ["auto_augment", pytest.param(RAND_ONE, marks=SLOW)])
def test_draws_have_the_chances_of_every_outcome(expression: str) -> None:
    """Results that rounding may keep from equalling Pillow's are told by the nearest of them."""
    image = np.ascontiguousarray(photographs()[3, :8, :8])
    chances = outcomes(image, expression)
    known = np.array([np.frombuffer(each, np.uint8) for each in chances], np.int32)
    got = levels(expression, jnp.broadcast_to(image, (3000, 8, 8, 3)), jnp.arange(3000))
    counted: Counter[int] = Counter()
    for each, count in Counter(x.tobytes() for x in np.asarray(got)).items():
        apart = np.abs(known - np.frombuffer(each, np.uint8)).max(1)
        assert apart.min() <= 2
        counted[int(apart.argmin())] += count
    expected = 3000 * np.array(list(chances.values()))
    seen = np.array([counted[i] for i in range(len(expected))])
    often = expected >= 5
    both = [np.append(x[often], x[~often].sum() + 1e-9) for x in (seen, expected)]
    assert stats.chisquare(both[0], both[1] * both[0].sum() / both[1].sum()).pvalue > 1e-3


@pytest.mark.parametrize("expression", [pytest.param("auto_augment", marks=SLOW), RAND_ONE])
def test_a_batch_equals_a_loop_over_its_images_by_index(expression: str) -> None:
    image, index = photographs(), jnp.array([7, 3, 0, 5, 11, 12, 1, 40])
    together = levels(expression, image, index)
    one_by_one = [levels(expression, image[i : i + 1], index[i : i + 1])[0] for i in range(8)]
    assert_same(together, jnp.stack(one_by_one))
    assert sum((a != b).any() for a, b in zip(np.asarray(together), image, strict=True)) >= 4


def test_normalised_images_are_changed_as_their_pixels_are() -> None:
    pixels = jnp.asarray(photographs(), jnp.float32) / 255
    mean, std = (
        jnp.reshape(jnp.array(MEAN), (1, 1, 1, 3)),
        jnp.reshape(jnp.array(STD), (1, 1, 1, 3)),
    )
    normalised = (pixels - mean) / std
    options = f"operations=1, magnitude=9.4, mean={MEAN}, std={STD}"
    one, other = "rand_augment(operations=1, magnitude=9)", f"rand_augment({options})"
    plain, got = jax.jit(lambda x, y: (augmented(one, x), augmented(other, y)))(pixels, normalised)
    assert_close(got, (plain - mean) / std)
    same = np.asarray(plain == pixels)
    assert_same(np.asarray(got)[same], np.asarray(normalised)[same])


@pytest.mark.slow
def test_penalties_see_the_changed_images() -> None:
    batch, key, forward = tanh_batch(), jax.random.key(0), tanh_forward()
    penalised = "cross_entropy | double_backprop(weight=0.1)"
    loss, plain = rj.parse(f"{penalised} | {RAND_ONE}"), rj.parse(penalised)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, key)
    stage = loss.stages[-1]
    own = named_key(key, "rand_augment")
    _, after = stage.definition.function(None, batch, own, **stage.arguments)
    assert (after.image != batch.image).any()
    expected, _ = plain.apply(plain.init(forward, after), forward, after, key)
    assert_close(result.penalties, expected.penalties)


def test_derivatives_by_the_images_end_here() -> None:
    image = jnp.asarray(photographs()[:2, :4, :4], jnp.float32) / 255
    gradient = jax.jit(jax.grad(lambda x: augmented(RAND_ONE, x).sum()))(image)
    assert_same(gradient, jnp.zeros_like(image))


WRONG = [
    ("auto_augment(policy='cifar100')", (2, 4, 4, 3), (2, 2), "policy must be one of 'cifar10'"),
    ("auto_augment", (2, 4, 4), (2, 2), r"auto_augment needs images \[B, H, W, K\]"),
    ("auto_augment", (2, 4, 4, 4), (2, 2), r"K = 1 or 3 channels, but Batch.image is \[2, 4, 4, 4"),
    ("rand_augment(operations=1, magnitude=1)", (2, 4, 4, 1), (2, 4, 4, 2), "dense labels"),
    ("auto_augment(mean=(0.5, 0.5))", (2, 4, 4, 3), (2, 2), r"mean must be a tuple of one number"),
    ("auto_augment(std=0.5)", (2, 4, 4, 3), (2, 2), r"std must be a tuple.*it is 0.5"),
    ("auto_augment(std=(0,))", (2, 4, 4, 3), (2, 2), "std must be above 0"),
    ("auto_augment(std=('a',))", (2, 4, 4, 3), (2, 2), r"std must be a tuple.*it is \('a',\)"),
    ("auto_augment(mean=(None,))", (2, 4, 4, 3), (2, 2), r"mean must be a tuple.*\(None,\)"),
]


@pytest.mark.parametrize(("expression", "image", "label", "sentence"), WRONG)
def test_what_does_not_fit_is_refused(expression, image, label, sentence) -> None:
    stage = rj.parse(f"cross_entropy | {expression}").stages[1]
    batch = rj.Batch(jnp.ones(image), jnp.ones(label))
    with pytest.raises(ValueError, match=sentence):
        stage.definition.function(None, batch, jax.random.key(0), **stage.arguments)


def test_no_more_than_thirty_and_no_fewer_than_one() -> None:
    for text in ("operations=0, magnitude=9", "operations=2, magnitude=31"):
        with pytest.raises(ValueError, match="rand_augment's"):
            rj.parse(f"cross_entropy | rand_augment({text})")
    assert NAMES.index("identity") == RAND.index("identity") == 0
