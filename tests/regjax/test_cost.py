"""What each transform costs: FLOPs of a training step as a multiple of the plain one.

Two counts: XLA's own, of the compiled step or, for large networks, of the step as it goes into the
compiler, which is right where there is no loop, and the jaxpr's (experiments/benchmark/flops.py),
which multiplies loops out. Where both apply they are held to each other.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import regjax as rj
import regjax.flax as rf
from experiments import models
from experiments.benchmark.flops import flops
from experiments.benchmark.isda import most_pieces
from experiments.models import layers

CLASSES = 10
PROBED = ("jacobian", "frobenius", "hessian_frobenius")
ONE_PASS = ("double_backprop(weight=0.1)", *(f"{name}(weight=0.1, probes=1)" for name in PROBED))
EXACT = (
    *(f"{name}(weight=0.1)" for name in PROBED),
    "hessian_frobenius(weight=0.1, power=2)",
)
FREE = (
    "label_smoothing(amount=0.1)",
    "noise_injection(sigma=0.1)",
    "l1(weight=0.1)",
    "l2(weight=0.1)",
)
LAYERS = {
    "plain": ("input",),
    "small_cnn": ("input", "conv1", "conv2"),
    "resnet32": ("input", "stages.0", "stages.1"),
}
MIXED = (
    "mixup(alpha=1.0)",
    "cutmix(alpha=1.0)",
    "noisy_mixup(alpha=1.0, add=0.4, multiply=0.2)",
    "manifold_mixup(alpha=1.0, layers={layers})",
    "noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, layers={layers})",
)
PERTURBED = (
    "feature_noise(add=0.4, multiply=0.2, layers={layers})",
    "cutout(size=4)",
    "disturb_label(rate=0.1)",
)
HSFOB_DB1 = "hessian_frobenius(weight=0.1, probes=1) | double_backprop(weight=0.1)"


def network(params: Any, x: jax.Array) -> jax.Array:
    """Two convolutions, of which the second does most of the work, and a head."""
    for kernel in params["kernels"]:
        x = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.softplus(x)
    return x.reshape(len(x), -1) @ params["head"]


@functools.cache
def standing(name: str) -> tuple[rj.Forward, rj.Batch]:
    if name == "plain":
        kernels = [jnp.ones((3, 3, 3, 16)), jnp.ones((3, 3, 16, 64))]
        params = {"kernels": kernels, "head": jnp.ones((4 * 4 * 64, CLASSES))}
        return rj.from_function(network, params), images(2, 16)
    # Models whose convolutions are the project's own.
    model = models.create(name, (32, 32, 3), CLASSES, nnx.Rngs(0))
    return rf.bind(model, head="head"), images({"small_cnn": 8, "resnet32": 128}[name], 32)


def images(size: int, side: int) -> rj.Batch:
    label = jnp.full((size, CLASSES), 1 / CLASSES)
    return rj.Batch(jnp.ones((size, side, side, 3)), label)


def training_step(forward: rj.Forward, expression: str | None) -> Any:
    """Value and gradient of a loss; None stands for cross entropy written without regjax."""

    def objective(params: Any, batch: rj.Batch, key: jax.Array) -> jax.Array:
        bound = forward.replace(params=params)
        if expression is None:
            logits = bound(batch.image, key).logits
            return -(batch.label * jax.nn.log_softmax(logits)).sum(-1).mean()
        loss = rj.parse(expression)
        result, _ = loss.apply(loss.init(bound, batch), bound, batch, key)
        return rj.total(result, batch)

    return jax.value_and_grad(objective)


def counted(name: str, expression: str | None) -> int:
    """By the jaxpr, loops multiplied out."""
    forward, batch = standing(name)
    return flops(training_step(forward, expression), forward.params, batch, jax.random.key(0))


@functools.cache
def compiled(name: str, expression: str | None) -> float:
    """By XLA, elementwise work and all, but loops once."""
    forward, batch = standing(name)
    step = jax.jit(training_step(forward, expression))
    return step.lower(forward.params, batch, jax.random.key(0)).compile().cost_analysis()["flops"]


def multiple(count: Any, name: str, expression: str) -> float:
    """Of the step written by hand."""
    return count(name, f"cross_entropy | {expression}") / count(name, None)


on_both = pytest.mark.parametrize("name", ["plain", "small_cnn"])


@on_both
def test_the_plain_loss_costs_what_cross_entropy_costs(name: str) -> None:
    assert counted(name, "cross_entropy") == counted(name, None)
    ratio = compiled(name, "cross_entropy") / compiled(name, None)
    np.testing.assert_allclose(ratio, 1, atol=0.01)


@on_both
@pytest.mark.parametrize("expression", FREE)
def test_what_changes_batch_or_weights_is_free(expression: str, name: str) -> None:
    assert multiple(counted, name, expression) == 1


@pytest.mark.parametrize(
    "expression", ["focal(gamma=2.0)", "generalized_cross_entropy(q=0.7, truncation=0.5)"]
)
def test_other_bases_cost_what_cross_entropy_costs(expression: str) -> None:
    assert counted("small_cnn", expression) == counted("small_cnn", None)


@on_both
@pytest.mark.parametrize("expression", ONE_PASS)
def test_one_pullback_doubles_the_step(expression: str, name: str) -> None:
    assert 1.9 < multiple(counted, name, expression) < 2.1


@on_both
@pytest.mark.parametrize("expression", EXACT)
def test_exact_norms_take_a_pullback_a_class(expression: str, name: str) -> None:
    assert 10 < multiple(counted, name, expression) < 12


@on_both
@pytest.mark.parametrize("probes", [2, 3])
def test_every_further_probe_costs_one_pullback(probes: int, name: str) -> None:
    expression = f"frobenius(weight=0.1, probes={probes})"
    assert multiple(counted, name, expression) < 1 + 1.1 * probes


@on_both
def test_hsfob_db1_shares_the_network_between_its_terms(name: str) -> None:
    assert 2.9 < multiple(counted, name, HSFOB_DB1) < 3.2


@on_both
@pytest.mark.parametrize("expression", [*MIXED, *PERTURBED])
def test_what_mixes_or_perturbs_costs_no_products(expression: str, name: str) -> None:
    assert multiple(counted, name, expression.format(layers=LAYERS[name])) <= 1.03


@pytest.mark.parametrize("expression", [*MIXED[:3], *PERTURBED[1:]])
def test_compiled_steps_that_mix_the_input_cost_what_the_plain_one_costs(expression: str) -> None:
    assert multiple(compiled, "small_cnn", expression) <= 1.03


@pytest.mark.parametrize(
    ("expression", "bound"),
    [*((name, 2.1) for name in ONE_PASS), (HSFOB_DB1, 3.2), (FREE[0], 1.01), (FREE[1], 1.15)],
)
def test_compiled_steps_keep_the_bounds(expression: str, bound: float) -> None:
    assert multiple(compiled, "plain", expression) < bound


@pytest.mark.parametrize(("expression", "bound"), [(ONE_PASS[0], 2.1), (HSFOB_DB1, 3.2)])
def test_compiled_steps_of_the_small_cnn_keep_the_bounds(expression: str, bound: float) -> None:
    assert multiple(compiled, "small_cnn", expression) < bound


def test_unrolled_and_compiled_the_exact_norm_keeps_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """XLA counts a loop's body once, so here the classes stand side by side."""
    assert multiple(compiled, "plain", EXACT[1]) < 3

    def unrolled(body: Any, carry: Any, xs: Any) -> tuple[Any, None]:
        for x in xs:
            carry, _ = body(carry, x)
        return carry, None

    monkeypatch.setattr(jax.lax, "scan", unrolled)
    assert 10 < multiple(compiled.__wrapped__, "plain", EXACT[1]) < 12


# A whole step of a ResNet-32 on CIFAR: the loss's state and the updated averages come out of it.


@functools.cache  # so that what counts in two ways is traced once
def whole_step(expression: str) -> tuple[Any, tuple[Any, ...]]:
    forward, batch = standing("resnet32")
    loss = rj.parse(expression.format(layers=LAYERS["resnet32"]))

    @jax.jit
    def step(params: Any, state: rj.LossState, key: jax.Array) -> Any:
        def objective(params: Any) -> tuple[jax.Array, Any]:
            result, after = loss.apply(state, forward.replace(params=params), batch, key)
            return rj.total(result, batch), (after, result.outputs.state)

        return jax.value_and_grad(objective, has_aux=True)(params)

    return step, (forward.params, loss.init(forward, batch), jax.random.key(0))


@functools.cache
def products(expression: str) -> int:
    step, arguments = whole_step(expression)
    return flops(step, *arguments, passes=most_pieces(128, CLASSES))


@functools.cache
def lowered(expression: str) -> float:
    """By XLA, elementwise work and all, but loops once; compiling would take a minute."""
    step, arguments = whole_step(expression)
    return step.lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize("covariance", ["full", pytest.param("diagonal", marks=pytest.mark.slow)])
def test_isda_costs_what_cross_entropy_costs_on_a_cifar_resnet(covariance: str) -> None:
    expression = f"isda(strength=0.5, covariance='{covariance}')"
    for count in (products, lowered):
        assert 1 < count(expression) / count("cross_entropy") <= 1.02


@pytest.mark.slow  # On small networks the tests above say it fast.
@pytest.mark.parametrize("expression", [*MIXED[:2], MIXED[4], PERTURBED[0]])
def test_mixing_costs_what_cross_entropy_costs_on_a_cifar_resnet(expression: str) -> None:
    expression = f"cross_entropy | {expression}"
    for count in (products, lowered):
        assert count(expression) / count("cross_entropy") <= 1.03


# The counter itself.


@on_both
@pytest.mark.parametrize("expression", [None, f"cross_entropy | {ONE_PASS[0]}"])
def test_the_count_is_xlas_where_there_is_no_loop(expression: str | None, name: str) -> None:
    """Input gradients of the first layer are dead code to both; XLA adds elementwise work."""
    more = {"plain": 1.05, "small_cnn": 1.2}[name]
    assert 1 <= compiled(name, expression) / counted(name, expression) < more


@pytest.mark.parametrize("convolution", [jax.lax.conv_general_dilated, layers.convolve])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolutions_count_without_padding_and_holes(
    padding: str, stride: int, convolution: Callable[..., jax.Array]
) -> None:
    x, kernel = jnp.ones((2, 7, 6, 4)), jnp.ones((3, 2, 2, 6))

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution(
            x,
            kernel,
            (stride, 1),
            padding,
            dimension_numbers=layers.NHWC,
            feature_group_count=2,
        )

    # On ones, the sum of the output counts the products; each one is two operations.
    products = 2 * float(convolve(x, kernel).sum())
    assert flops(convolve, x, kernel) == products
    # By the chain rule, so do the two derivatives.
    slopes = jax.grad(lambda x, kernel: convolve(x, kernel).sum(), argnums=(0, 1))
    assert flops(slopes, x, kernel) == 2 * products


def test_products_count_in_loops_branches_and_calls() -> None:
    x = jnp.ones((4, 3, 5))
    once = 2 * 4 * 3 * 5 * 3

    def product(x: jax.Array) -> jax.Array:
        return jnp.einsum("bij,bkj->bik", x, x)

    assert flops(product, x) == once
    assert flops(jax.jit(jax.checkpoint(product)), x) == once
    assert flops(lambda x: jax.lax.map(lambda s: product(s * x), jnp.arange(7.0)), x) == 7 * once
    zeros = jnp.zeros((4, 3, 3))
    assert flops(lambda x: jax.lax.cond(x[0, 0, 0] > 0, product, lambda x: zeros, x), x) == once
    assert flops(lambda x: (product(x), x)[1], x) == 0


def test_products_in_a_while_loop_count_as_often_as_the_caller_says() -> None:
    def power(x: jax.Array) -> jax.Array:
        return jax.lax.while_loop(lambda y: y.sum() < 1e3, lambda y: y @ x, x)

    with pytest.raises(ValueError, match="passes="):
        flops(power, jnp.ones((2, 2)))
    once = 2 * 2**3
    assert flops(power, jnp.ones((2, 2)), passes=5) == 5 * once
    assert flops(lambda x: power(x) @ x, jnp.ones((2, 2)), passes=5) == 6 * once
    idle = functools.partial(jax.lax.while_loop, lambda y: y.sum() < 1e3, lambda y: 2 * y)
    assert flops(idle, jnp.ones((2, 2))) == 0
