"""Puzzle Mix: saliency, mixing and labels against NumPy; its solvers have tests of their own."""

import functools
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from support import CLASSES, ConvNet, assert_close, assert_finite, assert_same

import regjax as rj
import regjax.flax as rf
from regjax.core.keys import named_key
from regjax.mixing.pairing import draw_lambda, pair
from regjax.mixing.puzzlemix import input_saliency, puzzlemix

KEY = jax.random.key(5)


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ params


def draw(size: int, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, rj.Batch]:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(np.prod(shape), 3)) * np.exp(rng.normal(size=(np.prod(shape), 3)))
    image = jnp.asarray(rng.uniform(size=(size, *shape)), jnp.float32)
    label = jnp.asarray(rng.dirichlet(np.ones(3), size=size), jnp.float32)
    return kernel, rj.Batch(image, label, jnp.asarray(rng.permutation(99)[:size], jnp.int32))


def saliency_by_hand(kernel: np.ndarray, batch: rj.Batch) -> np.ndarray:
    image, label = (np.asarray(a, np.float64) for a in (batch.image, batch.label))
    e = np.exp(image.reshape(len(image), -1) @ kernel)
    gradient = (e / e.sum(-1, keepdims=True) - label) @ kernel.T
    return np.linalg.norm(gradient.reshape(image.shape), axis=-1)


def mixed(network: Any, params: Any, batch: rj.Batch, key: Any = KEY, **arguments: Any) -> rj.Batch:
    forward = rj.from_function(network, params)
    return puzzlemix.definition.function(forward, batch, key, **arguments)[1]


def test_saliency_is_the_norm_of_the_gradient_in_closed_form() -> None:
    kernel, batch = draw(5, (4, 6, 2))
    found = input_saliency(rj.from_function(linear, jnp.asarray(kernel, jnp.float32)), batch)
    expected = saliency_by_hand(kernel, batch)
    ratio = np.asarray(found) / expected
    assert_close(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape))
    assert np.all(found.max((1, 2)) >= 1)


def cut(array: np.ndarray, n: int) -> dict[tuple[int, int], np.ndarray]:
    """The n x n blocks of an image by their places."""
    rows = np.split(array, n)
    return {(i, j): b for i, row in enumerate(rows) for j, b in enumerate(np.split(row, n, 1))}


def objective(z: Any, images: Any, saliencies: Any, lam: float, numbers: Any) -> float:
    """What the docstring says of a mask of two labels, term by term; index 1 is the example."""
    (beta, gamma, eta), value = numbers, 0.0
    for at, label in z.items():
        value -= saliencies[label][at] + eta / len(z) * np.log(lam if label else 1 - lam)
        for axis, after in enumerate(((at[0] + 1, at[1]), (at[0], at[1] + 1))):
            if after in z:
                border = images[label][at].take(-1, axis) - images[z[after]][after].take(0, axis)
                smooth = (label - z[after]) ** 2 + gamma * np.abs(border).mean()
                value += beta / (16 * np.sqrt(len(z))) * smooth
    return value


def worth(saliency: np.ndarray, mask: np.ndarray, cost: float) -> np.ndarray:
    """Of every block, at every place: `[N, N]`."""
    at = np.indices(mask.shape).reshape(2, -1)
    square = ((at[:, :, None] - at[:, None]) ** 2).sum(0) / (max(mask.shape) - 1) ** 2
    return saliency.reshape(-1, 1) * mask.reshape(1, -1) - cost * square


def mask_by_hand(images: Any, saliencies: Any, lam: float, numbers: Any) -> np.ndarray:
    """The best mask of 2 x 2 blocks and two labels, by exhaustive search."""
    blocks = [cut(image, 2) for image in images]
    shares = [{at: block.sum() for at, block in cut(s, 2).items()} for s in saliencies]
    masks = [dict(zip(blocks[0], z, strict=True)) for z in itertools.product((0, 1), repeat=4)]
    best = min(masks, key=lambda z: objective(z, blocks, shares, lam, numbers))
    return np.array(list(best.values())).reshape(2, 2)


def check_tiles(shown: Any, image: Any, saliency: Any, mask: np.ndarray, cost: float) -> int:
    """Where the mask shows the image are tiles of an optimal transport, one of maybe several."""
    tiles = len(mask)
    value = worth(np.array([tile.sum() for tile in cut(saliency, tiles).values()]), mask, cost)
    pieces, seen = (np.array([t.ravel() for t in cut(x, tiles).values()]) for x in (image, shown))
    places = np.flatnonzero(mask)
    origins = np.abs(seen[places][:, None] - pieces[None]).sum(-1).argmin(1)
    assert_close(seen[places], pieces[origins])
    forced = value.copy()
    forced[origins] -= 9
    forced[origins, places] += 9
    reached, best = (v[linear_sum_assignment(-v)].sum() for v in (forced, value))
    np.testing.assert_allclose(reached, best, atol=1e-6)
    return int((origins != places).sum())


@pytest.mark.parametrize("tiles", [2, 10])
def test_two_labels_are_mixed_as_by_hand(tiles: int) -> None:
    """Blocks of prime side, whose borders are one pixel deep; cheap transport."""
    numbers = {"beta": 0.5, "gamma": 0.9, "eta": 0.05, "xi": 0.005}
    kernel, batch = draw(16, (10, 10, 2))
    arguments = {"alpha": 1.0, "blocks": 2, "tiles": tiles, "labels": 2, "per_example": True}
    out = mixed(linear, jnp.asarray(kernel, jnp.float32), batch, **arguments, **numbers)
    pair_key, lambda_key, _ = jax.random.split(KEY, 3)
    partner = np.asarray(pair(pair_key, batch).of(jnp.arange(16)))
    lam = np.asarray(draw_lambda(lambda_key, batch, 1.0, True), np.float64)
    image, label = (np.asarray(a, np.float64) for a in (batch.image, batch.label))
    saliency = saliency_by_hand(kernel, batch)
    saliency /= saliency.sum((1, 2), keepdims=True)
    moved, shares = 0, []
    for i, j in enumerate(partner):
        mask = mask_by_hand(image[[j, i]], saliency[[j, i]], lam[i], [*numbers.values()][:3])
        share, mask = mask.mean(), mask.repeat(tiles // 2, 0).repeat(tiles // 2, 1)
        for source, kept in ((i, mask), (j, 1 - mask)):
            shown = np.asarray(out.image[i], np.float64)
            moved += check_tiles(shown, image[source], saliency[source], kept, numbers["xi"])
        assert_close(out.label[i], share * label[i] + (1 - share) * label[j])
        shares.append(share)
    assert moved > (0 if tiles == 2 else 10)
    assert len(set(shares)) > 3


@pytest.mark.parametrize("per_example", [False, True])
def test_the_label_weighs_exactly_what_is_shown(per_example: bool) -> None:
    """Example i is all of channel i, and of class i; blocks are powers of two in number."""
    rng = np.random.default_rng(0)
    image = jnp.broadcast_to(jnp.eye(12)[:, None, None], (12, 8, 8, 12))
    kernel = jnp.asarray(rng.normal(size=(768, 12)), jnp.float32)
    for xi in (0.0, 0.8):
        batch = rj.Batch(image, jnp.eye(12))
        numbers = {"alpha": 1.0, "beta": 0.05, "eta": 0.02, "xi": xi}
        out = mixed(linear, kernel, batch, tiles=8, per_example=per_example, **numbers)
        np.testing.assert_array_equal(out.label, out.image.mean((1, 2)))
        assert set(np.unique(out.image)) == {0, 0.5, 1}
        assert len(np.unique(out.label)) > 4


def square(params: Any, x: jax.Array) -> jax.Array:
    return (x**2).reshape(len(x), -1) @ params


def test_what_is_salient_survives() -> None:
    """Half of the images are bright, hence salient, on the left, and half on the right."""
    left = np.zeros((8, 8, 8, 1))
    left[:4, :, :4] = left[4:, :, 4:] = 1
    kernel = np.random.default_rng(0).normal(size=(64, 3))
    label = jax.nn.one_hot(np.arange(8) // 4, 3)
    batch = rj.Batch(jnp.asarray(left, jnp.float32), label)
    numbers = {"beta": 0.1, "gamma": 0.0, "eta": 1e-4, "xi": 0.8}
    out = mixed(square, jnp.asarray(kernel, jnp.float32), batch, alpha=1.0, **numbers)
    partner = pair(jax.random.split(KEY, 3)[0], batch).of(jnp.arange(8))
    across = np.arange(8) // 4 != partner // 4
    assert 0 < across.sum() < 8
    np.testing.assert_array_equal(out.image[across], 1)
    np.testing.assert_array_equal(out.label[across], np.tile([0.5, 0.5, 0], (across.sum(), 1)))
    np.testing.assert_array_equal(out.image[~across], batch.image[~across])


def test_the_image_keeps_its_type_and_alpha_zero_changes_nothing() -> None:
    kernel, batch = draw(6, (4, 4, 1))
    params = jnp.asarray(kernel, jnp.float32)
    batch = batch.replace(image=batch.image.astype(jnp.bfloat16))
    assert mixed(linear, params, batch, alpha=1.0).image.dtype == jnp.bfloat16
    assert_same(mixed(linear, params, batch, alpha=0.0), batch)


@pytest.mark.slow
def test_each_step_draws_one_of_the_grids() -> None:
    kernel, batch = draw(6, (4, 4, 1))
    choose = jax.jit(
        lambda key, blocks: mixed(
            linear, jnp.asarray(kernel), batch, key, alpha=1.0, blocks=blocks
        ),
        static_argnums=1,
    )
    seen = []
    for key in jax.random.split(KEY, 12):
        drawn = choose(key, (1, (2, 4)))
        fixed = [choose(key, blocks) for blocks in (1, ((2, 4),))]
        same = [np.array_equal(drawn.image, f.image) for f in fixed]
        assert any(same)
        seen += [i for i in range(2) if same == [i == 0, i == 1]]
    assert set(seen) == {0, 1}


@pytest.mark.slow
def test_partners_come_from_all_devices_of_an_axis() -> None:
    """No tile moves: of transports that are equally good, rounding chooses one."""
    kernel, batch = draw(16, (4, 4, 1))
    params = jnp.asarray(kernel, jnp.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data = PartitionSpec("data")
    stage = functools.partial(mixed, linear, alpha=1.0, xi=9.0)
    sharded = jax.shard_map(
        lambda params, batch: stage(params, batch, axis_name="data"),
        mesh=mesh,
        in_specs=(PartitionSpec(), data),
        out_specs=data,
    )
    whole = stage(params, batch)
    assert_close(jax.jit(sharded)(params, batch), whole)
    assert jnp.any(whole.image != batch.image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 3}, "3 x 3 equal parts, but they are 8 x 4"),
        ({"blocks": ((4, 8),)}, "4 x 8 equal parts"),
        ({"blocks": 4, "tiles": 8}, "8 x 8 equal parts"),
        ({"blocks": ((1, 2),), "tiles": 3}, "3 x 3 equal parts"),
        ({"blocks": ((4, 2),), "tiles": 2, "labels": 1}, "labels must be a whole number >= 2"),
        ({"blocks": ()}, "blocks must be n"),
        ({"blocks": 0}, "blocks must be n"),
        ({"blocks": "4"}, "blocks must be n"),
        ({"blocks": (2, 4.0)}, "blocks must be n"),
        ({"tiles": 0}, "tiles must be a whole number >= 1"),
        ({"labels": 2.5}, "labels must be a whole number >= 2"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    kernel, batch = draw(2, (8, 4, 1))
    with pytest.raises(ValueError, match=message):
        mixed(linear, jnp.asarray(kernel), batch, alpha=1.0, **arguments)


def test_bad_images_are_named() -> None:
    kernel, batch = draw(2, (8, 4))
    with pytest.raises(ValueError, match=r"needs images \[B, H, W, K\], but they are \[2, 8, 4\]"):
        mixed(linear, jnp.asarray(kernel), batch, alpha=1.0)
    kernel, batch = draw(2, (6, 6, 1))
    with pytest.raises(ValueError, match="4 x 4 blocks do not divide 6 x 6 tiles"):
        mixed(linear, jnp.asarray(kernel), batch, alpha=1.0, tiles=6)


class SmallNet(nnx.Module):
    """A convolution, BatchNorm and a linear layer, for digits."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(256, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(jax.nn.relu(self.norm(self.conv(x))).reshape(len(x), -1))


def test_training_steps_lower_the_composed_loss_of_a_network_with_batchnorm() -> None:
    image, label = load_digits(n_class=CLASSES, return_X_y=True)
    image = jnp.asarray(image[:32].reshape(-1, 8, 8, 1) / 16, jnp.float32)
    batch = rj.Batch(image, jax.nn.one_hot(label[:32], CLASSES))
    forward = rf.bind(SmallNet(nnx.Rngs(0)))
    loss = rj.hessian_frobenius(puzzlemix(rj.cross_entropy(), alpha=1.0), weight=0.01, probes=1)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(loss: rj.Loss, forward: rj.Forward) -> tuple[jax.Array, rj.Forward]:
        def objective(params: Any) -> tuple[jax.Array, Any]:
            bound = forward.replace(params=params)
            result, _ = loss.apply(loss.init(bound, batch), bound, batch, KEY)
            return rj.total(result, batch), result.outputs.state

        (value, state), slope = jax.value_and_grad(objective, has_aux=True)(forward.params)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, forward.params, slope)
        return value, forward.replace(params=params, state=state)

    values = []
    for _ in range(15):
        value, forward = step(loss, forward)
        values.append(value)
    assert values[1] < values[0]
    assert values[-1] < 0.8 * values[0]
    assert_finite(step(jax.tree.map(lambda x: 0 * x, loss), forward))


@pytest.mark.slow
def test_the_saliency_pass_leaves_no_trace_in_batchnorm() -> None:
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(4, 4, 4, 1)), jnp.float32)
    batch = rj.Batch(image, jnp.eye(CLASSES)[jnp.arange(4) % CLASSES])
    forward = rf.bind(ConvNet(nnx.Rngs(0), rate=0.0))
    loss = puzzlemix(rj.cross_entropy(), alpha=1.0)
    result, _ = jax.jit(loss.apply)(loss.init(forward, batch), forward, batch, KEY)
    key = named_key(KEY, "puzzlemix")
    after = puzzlemix.definition.function(forward, batch, key, alpha=1.0)[1]
    assert_close(result.outputs.state, forward(after.image, KEY).state)
    alone = [
        input_saliency(forward, jax.tree.map(lambda x, i=i: x[i : i + 1], batch)) for i in range(4)
    ]
    assert_close(jnp.concatenate(alone), input_saliency(forward, batch))
