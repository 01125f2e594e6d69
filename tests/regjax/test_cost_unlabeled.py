"""What terms of unlabelled images cost: FLOPs of a step, counted without compiling anything.

As multiples of a supervised step on as many images.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

import regjax as rj
from experiments.benchmark import transforms
from experiments.benchmark.flops import flops
from experiments.benchmark.isda import most_pieces
from experiments.benchmark.timing import random_task
from experiments.training.task import blank

LABELED, UNLABELED = 16, 112
HIDDEN, HEAD = 48 * 64, 64 * 10  # multiply-adds of an image


def of_two_layers(terms: str, labeled: int = LABELED, unlabeled: int = UNLABELED) -> float:
    """Multiply-adds of a step."""

    def objective(params: tuple[jax.Array, jax.Array], image: jax.Array, more: jax.Array) -> object:
        forward = rj.from_function(lambda p, x: jnp.tanh(x @ p[0]) @ p[1], params)
        second = rj.Batch(more, jnp.zeros((unlabeled, 10)), jnp.arange(unlabeled))
        batch = rj.Batch(image, jnp.zeros((labeled, 10)), unlabeled=second if unlabeled else None)
        loss = rj.parse(f"cross_entropy{terms}")
        result, _ = loss.apply(loss.init(forward, batch), forward, batch, jax.random.key(0))
        return rj.total(result, batch)

    shapes = (((48, 64), (64, 10)), (labeled, 48), (unlabeled, 48))
    leaf = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)  # noqa: E731
    params, *images = (tuple(map(leaf, shapes[0])), *map(leaf, shapes[1:]))
    return flops(jax.grad(objective), params, *images) / 2


@pytest.mark.parametrize(
    ("terms", "whole", "forward"),
    [
        ("entropy(weight=1)", 1, 0),
        ("pi_model(weight=1)", 2, 0),
        ("temporal_ensembling(weight=1, images=112)", 1, 0),
        ("mean_teacher(weight=1)", 1, 1),
        ("vat(weight=1, epsilon=1.0)", 1, 3),
        ("vat(weight=1, epsilon=1.0, iterations=3)", 1, 7),
        ("vat(weight=1, epsilon=1.0, finite_difference=0.1)", 1, 3),
        ("entropy(weight=1) | temporal_ensembling(weight=1, images=112)", 1, 0),
    ],
)
def test_an_image_takes_whole_passes_and_products_of_the_size_of_a_forward_one(
    terms: str, whole: int, forward: int
) -> None:
    """A product with a Jacobian costs as much; the first layer has no gradient of the input."""
    supervised = 2 * HIDDEN + 3 * HEAD
    assert of_two_layers("", LABELED + UNLABELED, 0) == (LABELED + UNLABELED) * supervised
    each = whole * supervised + forward * (HIDDEN + HEAD)
    assert of_two_layers(f" | {terms}") == LABELED * supervised + UNLABELED * each


# A whole step of CNN-13 at full width: optimizer, averages and ISDA's statistics come out of it.


@functools.cache
def of_cnn13(expression: str, labeled: int = LABELED, unlabeled: int = UNLABELED) -> int:
    task, loss = random_task("cnn13", (32, 32, 3)), rj.parse(expression)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    state = jax.eval_shape(task.init, seed, loss)
    batch = jax.eval_shape(lambda: task.batch(blank(task.example, labeled, unlabeled)))
    passes = most_pieces(labeled, task.classes)
    return flops(task.step, state, loss, batch, seed, passes=passes)


@pytest.mark.slow  # On a small network the test above says it fast.
@pytest.mark.parametrize(
    ("name", "passes", "most"),
    [
        ("pi_model", 2, 2.0),
        ("temporal_ensembling", 1, 1.0),
        ("mean_teacher", 4 / 3, 1.35),
        ("vat", 2, 3.1),
        ("vat, 2 iterations", 8 / 3, 3.1),
        ("entropy", 1, 1.0),
        ("semantic_consistency", 1, 1.05),
        ("vat + ISDA", 3, 3.1),
    ],
)
def test_a_step_of_cnn13_costs_the_passes_of_its_terms(
    name: str, passes: float, most: float
) -> None:
    """Of each image without a label; the first layer's missing gradients are under 1 %."""
    supervised = of_cnn13(f"cross_entropy | {transforms.VIEWS}", LABELED + UNLABELED, 0)
    found = of_cnn13(transforms.UNLABELED[name]) / supervised
    expected = (LABELED + passes * UNLABELED) / (LABELED + UNLABELED)
    assert found == pytest.approx(expected, rel=0.01)
    assert found <= most
