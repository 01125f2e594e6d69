"""Grouped bilinear maps beside a loop over the groups in NumPy; size of programs and arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from experiments.models import blocks

# Of pixelwise convolutions, with and without the two letters of the kernel's window.
MAPS = {
    "output": ("bijk,hwko->bijo", "bijk,ko->bijo"),
    "image": ("bijo,hwko->bijk", "bijo,ko->bijk"),
    "kernel": ("bijk,bijo->ko", "bijk,bijo->ko"),
}


def arrays(of, channels, filters, groups, pixels=(2, 3, 3)):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(*pixels, channels)), rng.normal(size=(*pixels, filters))
    kernel = rng.normal(size=(1, 1, channels // groups, filters))
    return {"output": (x, kernel), "image": (y, kernel), "kernel": (x, y)}[of]


def mapped(of, form, groups):
    def plain(a, b):
        out = jnp.einsum(MAPS[of][0], a, b)
        return out[None, None] if of == "kernel" else out

    return lambda a, b: form(plain, a, b, groups, of == "kernel")


@pytest.mark.parametrize(
    ("channels", "filters", "groups"), [(36, 34, 2), (24, 12, 4), (5, 10, 5), (51, 51, 17)]
)
def test_maps_equal_a_loop_over_groups(channels, filters, groups):
    for of, (_, pixelwise) in MAPS.items():
        a, b = arrays(of, channels, filters, groups)
        pairs = zip(np.split(a, groups, -1), np.split(b, groups, -1), strict=True)
        window = () if of == "kernel" else (0, 0)
        expected = np.concatenate([np.einsum(pixelwise, x, y[window]) for x, y in pairs], -1)
        if of == "kernel":
            expected = expected[None, None]
        forms = [mapped(of, form, groups) for form in (blocks.apply, blocks.at_once)]
        for got in jax.jit(lambda a, b, forms=forms: [form(a, b) for form in forms])(a, b):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("of", MAPS)
def test_many_groups_make_no_longer_a_program_and_no_larger_arrays(of):
    lengths = []
    for groups in (32, 64):
        a, b = arrays(of, 128, 128, groups, (8, 16, 16))
        program = list(equations(jax.make_jaxpr(mapped(of, blocks.apply, groups))(a, b).jaxpr))
        assert max(v.aval.size for e in program for v in e.outvars) == 8 * 16 * 16 * 128
        lengths.append(len(program))
    assert lengths[0] == lengths[1]
