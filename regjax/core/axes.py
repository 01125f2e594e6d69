"""Work that is split over the devices of an axis, of `pmap`, of `shard_map` or of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec


def is_mapped(axis_name: str) -> bool:
    """Whether the code is inside a `pmap` or `shard_map` over that axis."""
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        return False
    return True


def everywhere(x: jax.Array, axis_name: str) -> jax.Array:
    """The rows of `x [B, ...]` of all devices of the axis, `[N B, ...]`, alike on each."""
    return jax.lax.all_gather(x, axis_name, tiled=True, to="invarying")


def varying_as(x: jax.Array, other: Any) -> jax.Array:
    """The same array, of the type of one that differs by device as `other` does, under shard_map.

    Its derivative is summed over those devices here, not wherever it is used.
    """
    axes = (jax.typeof(a).manual_axis_type for a in (other, x))
    wanted, given = (frozenset(a.varying) if a else frozenset() for a in axes)
    missing = tuple(sorted(wanted - given))
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def is_split(count: int, classes: int, axis_name: str | None) -> bool:
    """Whether a device that keeps `count` classes out of C keeps no other's; so does a lone one."""
    if axis_name is None or not is_mapped(axis_name):
        return False
    return count * jax.lax.axis_size(axis_name) == classes


def columns(x: jax.Array, count: int, axis_name: str | None) -> jax.Array:
    """The classes of `x [..., C]` that are kept on this device: all, or its `count`."""
    if x.shape[-1] == count:
        return x
    if axis_name is None or count * jax.lax.axis_size(axis_name) != x.shape[-1]:
        raise ValueError(
            f"the statistics have {count} classes, but the labels have {x.shape[-1]}: statistics "
            "split by class need axis_name=, the axis over which they are split."
        )
    return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis_name) * count, count, -1)


def check_axis_name(axis_name: str) -> None:
    """Refuses an axis that is none of the mesh, where it is no mapped one."""
    mesh = jax.sharding.get_abstract_mesh()
    if axis_name not in mesh.axis_names:
        raise ValueError(
            f"axis_name={axis_name!r} is neither an axis of a pmap or shard_map around this, nor "
            f"of a mesh that jax.set_mesh set, whose axes are {list(mesh.axis_names)}."
        )


def check_axis(axis_name: str, count: int, what: str, otherwise: str) -> None:
    """Refuses an axis of the mesh over which so many cannot be split, under `jit`.

    Args:
      axis_name: that of the mesh that `jax.set_mesh` set.
      count: how many there are.
      what: what they are.
      otherwise: what is so without the axis.

    Raises:
      ValueError: there is no such axis, it is not of type Auto, or its devices do not divide them.
    """
    check_axis_name(axis_name)
    mesh = jax.sharding.get_abstract_mesh()
    kind = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[axis_name]
    if kind != jax.sharding.AxisType.Auto:
        raise ValueError(
            f"the axis {axis_name!r} of the mesh must be of the type Auto: make the mesh with "
            "jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,))."
        )
    if count % mesh.shape[axis_name]:
        raise ValueError(
            f"{count} {what} cannot be split evenly over the {mesh.shape[axis_name]} devices of "
            f"the axis {axis_name!r}: without axis_name {otherwise}."
        )


def by_class(
    function: Callable[..., Any], axis_name: str | None, classes: int, split: Any, to: Any
) -> Callable[..., Any]:
    """A function of (statistics, arrays) that each device runs with its own classes, under `jit`.

    Args:
      function: of statistics and arrays; it finds its classes by `columns`.
      axis_name: None leaves the function as it is, and so does an axis that is mapped already.
      classes: C.
      split: `PartitionSpec`s of the statistics.
      to: `PartitionSpec`s of what the function returns.

    Returns:
      A function of the same arguments.

    Raises:
      ValueError: there is no such axis, it is not of type Auto, or C cannot be split over it.
    """
    if axis_name is None or is_mapped(axis_name) or classes == 1:
        return function
    check_axis(axis_name, classes, "classes", "every device keeps all classes")

    def on_devices(statistics: Any, *arrays: Any) -> Any:
        specs = (split, *[PartitionSpec()] * len(arrays))
        mapped = jax.shard_map(function, in_specs=specs, out_specs=to)
        return mapped(statistics, *arrays)

    return on_devices
