"""Ranges of stages' numbers: what is refused where a stage is made, and what is free."""

from typing import TYPE_CHECKING, Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from regjax.core.stages import REGISTRY

if TYPE_CHECKING:
    from somewhere import Unknown


@rj.wrapper
def dimmed(forward, batch, *, amount: Annotated[rj.Number, rj.Range(0, 1)] | None = None):
    return forward, batch


@rj.wrapper
def unresolved(
    forward: "Unknown", batch, *, amount: "Annotated[rj.Number, rj.Range(high=3)]", name: str = "a"
):
    return forward, batch


BASE = rj.cross_entropy()


@pytest.mark.parametrize(
    ("amount", "found"),
    [
        (2, "is 2"),
        (-0.25, "is -0.25"),
        (np.float32(1.5), "is 1.5"),
        (jnp.array(-3), "is -3"),
        (np.array([0.5, 1.25, 7]), "holds 1.25"),
        (jnp.array([[0.5], [-1]], jnp.bfloat16), "holds -1"),
    ],
)
def test_a_number_out_of_its_range_is_refused(amount: object, found: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^dimmed's amount must be between 0 and 1, but it {found}"
    ):
        dimmed(BASE, amount=amount)


@pytest.mark.parametrize("amount", [np.nan, np.array([0.5, np.nan]), jnp.array([jnp.inf, 0.0])])
def test_what_is_not_finite_is_refused_in_any_range(amount: object) -> None:
    for stage in (dimmed, unresolved):
        with pytest.raises(ValueError, match=r"amount must be finite, but it (is|holds) (nan|inf)"):
            stage(BASE, amount=amount)


@pytest.mark.parametrize("amount", [None, 0, 1, np.array([0.0, 1.0]), np.zeros((0,)), lambda _: 5])
def test_the_ends_and_schedules_are_taken(amount: object) -> None:
    assert dimmed(BASE, amount=amount).stages[1].definition.name == "dimmed"


def test_one_sided_ranges_and_expressions() -> None:
    with pytest.raises(ValueError, match=r"^mixup's alpha must be at least 0, but it is -1\.$"):
        rj.parse("cross_entropy | mixup(alpha=-1)")
    with pytest.raises(ValueError, match=r"^unresolved's amount must be at most 3, but it is 4\.$"):
        rj.parse("cross_entropy | unresolved(amount=4)")
    with pytest.raises(ValueError, match=r"^jacobian's probes must be at least 1, but it is 0\.$"):
        rj.parse("cross_entropy | jacobian(weight=1, probes=0)")


def test_what_is_traced_is_free() -> None:
    closed = jax.make_jaxpr(lambda a: jax.tree.leaves(dimmed(BASE, amount=a)))(2.0)
    assert not closed.eqns
    assert jax.vmap(lambda a: dimmed(BASE, amount=a).stages[1].arguments["amount"])(
        jnp.array([2.0, 3.0])
    ).tolist() == [2, 3]


def test_a_concrete_number_is_checked_inside_of_a_trace() -> None:
    amount = jnp.array([2.0])
    with pytest.raises(ValueError, match="between 0 and 1, but it holds 2"):
        jax.eval_shape(lambda: jax.tree.leaves(dimmed(BASE, amount=amount)))


def test_jax_may_put_anything_into_a_loss() -> None:
    loss = dimmed(BASE, amount=0.5)
    odd = jax.tree.map(lambda _: object(), loss)
    assert jax.tree.structure(odd) == jax.tree.structure(loss)
    assert jax.tree.leaves(jax.tree.map(lambda x: -9 * x, loss)) == [-4.5]


def test_an_annotation_that_cannot_be_read_leaves_the_others() -> None:
    definition = REGISTRY["unresolved"]
    assert (definition.is_number("amount"), definition.is_number("name")) == (True, False)
