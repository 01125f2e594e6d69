"""The stage that moves a batch by the network in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import assert_close, assert_same, random_batch, tanh_forward

import regjax as rj
from experiments.benchmark.flops import flops

KEY = jax.random.key(0)


def result(text: str, batch: rj.Batch, forward: rj.Forward) -> rj.Result:
    loss = rj.parse(text)
    return loss.apply(loss.init(forward, batch), forward, batch, KEY)[0]


def test_the_loss_is_of_images_that_the_network_itself_has_moved() -> None:
    forward, batch = tanh_forward(), random_batch(4)
    given = {"iterations": 3, "step": 0.2, "momentum": 0.5, "normalize": "rms"}
    given |= {"reduce": "mean", "clip": (-1.0, 2.0)}
    loss = rj.sign(rj.cross_entropy(), **given)
    found = result(repr(loss), batch, forward)
    image = rj.signed(forward, batch.image, **given).image
    assert_close(found.losses, result("cross_entropy", batch.replace(image=image), forward).losses)
    assert not np.allclose(found.losses, result("cross_entropy", batch, forward).losses)


def test_nothing_is_differentiated_through_the_move() -> None:
    forward, batch = tanh_forward(), random_batch(4)
    image = rj.signed(forward, batch.image, iterations=2, step=0.2).image
    fixed = batch.replace(image=image)

    def gradient(text: str, batch: rj.Batch) -> rj.Forward:
        def total(params: dict[str, jax.Array]) -> jax.Array:
            return rj.total(result(text, batch, forward.replace(params=params)), batch)

        return jax.grad(total)(forward.params)

    assert_close(
        gradient("cross_entropy | sign(iterations=2, step=0.2)", batch),
        gradient("cross_entropy", fixed),
    )


@pytest.mark.parametrize("off", ["iterations=0", "iterations=2, step=0.0"])
def test_off_it_changes_nothing(off: str) -> None:
    forward, batch = tanh_forward(), random_batch(4)
    found = result(f"cross_entropy | sign({off})", batch, forward)
    assert_same(found.losses, result("cross_entropy", batch, forward).losses)


def test_an_iteration_costs_two_forward_passes() -> None:
    kernel = jnp.ones((64, 32)), jnp.ones((32, 3))

    def network(kernels: tuple[jax.Array, ...], x: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = jnp.tanh(x @ kernels[0])
        return features @ kernels[1], features

    forward = rj.from_function(network, kernel, head=lambda kernels: (kernels[1], None))
    batch = rj.Batch(jnp.ones((8, 64)), jnp.ones((8, 3)) / 3)
    plain = flops(lambda f: result("cross_entropy", batch, f).losses, forward)
    forward_pass = flops(lambda f: f(batch.image).features, forward)
    for count in (1, 4):
        text = f"cross_entropy | sign(iterations={count})"
        cost = flops(lambda f, text=text: result(text, batch, f).losses, forward)
        assert cost - plain == 2 * count * forward_pass
