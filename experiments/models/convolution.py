"""A 2D convolution whose derivatives of every order are fast on CPUs, in loops and under vmap.

XLA's CPU compiler is fast at NHWC x HWIO -> NHWC only, and inside a loop it does not bring other
forms into that one. The derivatives that JAX writes down for a convolution have other forms, so a
training step inside `lax.scan` crawls; under `vmap` over models, so do grouped convolutions.
Those of a network itself are made of plain ones in `blocks.py`.

A convolution is a trilinear form in image, kernel and output. Fixing two of the three leaves three
bilinear maps, to the output, the image and the kernel, which are each other's transposes: every
derivative of one, of any order and in any mode, is made of these three. Each is written once as
canonical convolutions, in `canonical.py`, and once as patches times a matrix, for kernels of one
pixel or larger than the image, and for many models at once where these are small; else the models
take turns.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from experiments.models import blocks, canonical, depthwise
from experiments.models.windows import Window, shifted

Bilinear = Callable[[jax.Array, jax.Array, Window], jax.Array]
# Of all models' patches, in numbers, that still stay in the cache.
FEW_NUMBERS = 2**20


def _patched_output(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    patches = jnp.concatenate(shifted(x, window), -1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def _patched_image(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    def placed(pixels: jax.Array, offset: tuple[int, ...]) -> jax.Array:
        sides = zip(
            window.image, window.output, window.strides, window.padding, offset, strict=True
        )
        edges = [(k - low, n - 1 + low - k - s * (m - 1), s - 1) for n, m, s, (low, _), k in sides]
        return lax.pad(pixels, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])

    offsets = itertools.product(*map(range, window.kernel))
    return functools.reduce(jnp.add, (placed(y @ kernel[o].T, o) for o in offsets))


def _patched_kernel(x: jax.Array, y: jax.Array, window: Window) -> jax.Array:
    patches = jnp.concatenate(shifted(x, window), -1)
    kernel = jnp.einsum("bijk,bijo->ko", patches, y)
    return kernel.reshape(*window.kernel, x.shape[-1], y.shape[-1])


def by_patches(window: Window) -> bool:
    """Whether patches times a matrix are the faster form for one model."""
    sides = zip(window.kernel, window.image, window.output, strict=True)
    # XLA's convolution takes up to a hundred times as long where a kernel is larger than what it
    # moves over, which is the output in the map to the image.
    return window.kernel == (1, 1) or any(k > min(n, m) for k, n, m in sides)


def one_by_one(pixels: int, window: Window) -> bool:
    """Whether many models, with so many numbers in a pixel of all their images, take turns."""
    # Of an exported network the number is a symbol, of which nothing is known.
    if by_patches(window) or not isinstance(pixels, int):
        return False
    return pixels * math.prod(window.output + window.kernel) > FEW_NUMBERS


def _each_by_itself(a: jax.Array, b: jax.Array, window: Window, to_kernel: bool) -> bool:
    """Whether every group is one channel of the image and one of the output."""
    single = to_kernel or b.shape[-2] == 1
    return single and a.shape[-1] == b.shape[-1] == window.groups > 1


def _bilinear(
    name: str, shape: Callable[..., tuple[int, ...]], plain: Bilinear, patched: Bilinear
) -> Primitive:
    """A bilinear primitive of arrays of rank 4, or of rank 5 with a leading axis of models."""
    primitive = Primitive(name)

    def of_one(a: jax.Array, b: jax.Array, window: Window) -> jax.Array:
        if _each_by_itself(a, b, window, primitive is kernel_p):
            return depthwise.FORMS[name](a, b, window)
        form = patched if by_patches(window) or a.shape[0] == 0 else plain
        return grouped(blocks.apply, lambda a, b: form(a, b, window), window)(a, b)

    def grouped(apart: Callable, form: Callable, window: Window) -> Callable:
        given = {"groups": window.groups, "to_kernel": primitive is kernel_p}
        return functools.partial(apart, form, **given) if window.groups > 1 else form

    def compute(a: jax.Array, b: jax.Array, *, window: Window) -> jax.Array:
        if a.ndim == 4:
            return of_one(a, b, window)
        channels = b.shape[-2] * window.groups if primitive is image_p else a.shape[-1]
        alone = _each_by_itself(a, b, window, primitive is kernel_p)
        if alone or one_by_one(math.prod(a.shape[:2]) * channels, window):
            return lax.map(lambda pair: of_one(pair[0], pair[1], window), (a, b))
        of_each = grouped(blocks.at_once, lambda a, b: patched(a, b, window), window)
        return jax.vmap(of_each)(a, b)

    def abstract(a: Any, b: Any, *, window: Window) -> Any:
        lead = a.ndim - 4
        return a.update(shape=a.shape[:lead] + shape(a.shape[lead:], b.shape[lead:], window))

    primitive.def_impl(jax.jit(compute, static_argnames="window"))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    return primitive


def _batch(
    primitive: Primitive, args: tuple[jax.Array, ...], axes: tuple, *, window: Window
) -> tuple[jax.Array, int]:
    models = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
    a, b = (
        jnp.broadcast_to(a, (models, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(args, axes, strict=True)
    )
    if axes[1] is None and a.ndim == 5 and primitive is not kernel_p:
        flat = primitive.bind(a.reshape(-1, *a.shape[2:]), args[1], window=window)
        return flat.reshape(models, -1, *flat.shape[1:]), 0
    if a.ndim == 5:
        return primitive.bind(a, b, window=window), 0
    a, b = (t.reshape(-1, *t.shape[2:]) for t in (a, b))
    out = primitive.bind(a, b, window=window)
    return out.reshape(models, -1, *out.shape[1:]), 0


output_p = _bilinear(
    "convolution_output",
    lambda x, kernel, window: (x[0], *window.output, kernel[3]),
    canonical.output,
    _patched_output,
)
image_p = _bilinear(
    "convolution_image",
    lambda y, kernel, window: (y[0], *window.image, kernel[2] * window.groups),
    canonical.image,
    _patched_image,
)
kernel_p = _bilinear(
    "convolution_kernel",
    lambda x, y, window: (*window.kernel, x[3] // window.groups, y[3]),
    canonical.kernel,
    _patched_kernel,
)

ad.defbilinear(
    output_p,
    lambda y, x, kernel, *, window: image_p.bind(y, kernel, window=window),
    lambda y, x, kernel, *, window: kernel_p.bind(x, y, window=window),
)
ad.defbilinear(
    image_p,
    lambda x, y, kernel, *, window: output_p.bind(x, kernel, window=window),
    lambda x, y, kernel, *, window: kernel_p.bind(x, y, window=window),
)
ad.defbilinear(
    kernel_p,
    lambda kernel, x, y, *, window: image_p.bind(y, kernel, window=window),
    lambda kernel, x, y, *, window: output_p.bind(x, kernel, window=window),
)


def convolve(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Convolve images x [B, H, W, K] with a kernel [h, w, K / groups, O] to [B, H', W', O]."""
    return output_p.bind(*_alike(x, kernel), window=window)


def transposed(y: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The transpose [B, H, W, K] of `convolve` in x, of y [B, H', W', O]."""
    return image_p.bind(*_alike(y, kernel), window=window)


def _alike(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    # Under shard_map a primitive wants both factors to vary over the same mesh axes.
    varying = [jax.typeof(a).mat.varying for a in (x, kernel)]
    for_x, for_kernel = (tuple(varying[1] - varying[0]), tuple(varying[0] - varying[1]))
    x = lax.pcast(x, for_x, to="varying") if for_x else x
    kernel = lax.pcast(kernel, for_kernel, to="varying") if for_kernel else kernel
    return x, kernel
