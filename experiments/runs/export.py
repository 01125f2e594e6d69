"""A trained network as a file that needs no regjax, only jax and flatbuffers.

    python -m experiments.runs.export runs/digits --method=db --output=model.jax

Elsewhere, `jax.export.deserialize(Path("model.jax").read_bytes()).call(image)` are the logits
`[B, C]` of images uint8 `[B, H, W, K]` as they were stored: the normalisation is part of it. The
file is for any number of images and for every platform of `PLATFORMS`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path

import jax
import jax.export
import numpy as np
from absl import flags

from experiments import ConfigError, compiled_for
from experiments.runs import commands
from experiments.runs.load import Predictor, load_predictor

USAGE = "python -m experiments.runs.export runs/digits --method=db --output=model.jax"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(predictor: Predictor) -> bytes:
    """The serialized program, parameters included.

    Args:
      predictor: as `load_predictor` returns it.

    Returns:
      What `jax.export.deserialize` reads: of any number of images, uint8 or whatever they are
      stored as.

    Raises:
      ValueError: the network cannot be traced for any number of images.
      OSError: flatbuffers is not installed.

    Example:
      `Path("model.jax").write_bytes(export(load_predictor("runs/digits", "baseline")))`
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise OSError("The package flatbuffers is needed to write a file: pip install flatbuffers.")
    (count,) = jax.export.symbolic_shape("b")
    dtype = np.dtype(predictor.spec.example["image"].dtype)
    image = jax.ShapeDtypeStruct((count, *predictor.spec.shape), dtype)
    try:
        # One by one, since not every network can be traced for a number of images that is a symbol.
        program = jax.jit(jax.vmap(lambda image: _on_each_platform(predictor, image[None])[0]))
        exported = jax.export.export(program, platforms=PLATFORMS)(image)
    except Exception as error:  # somebody's own network may do anything with its shapes
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(
            f"the network cannot be exported for any number of images: {type(error).__name__}: "
            f"{reason}."
        ) from error
    return bytes(exported.serialize())


def _on_each_platform(predictor: Predictor, image: jax.Array) -> jax.Array:
    """The logits, of layers in the form that is fast on CPUs there and in the native one elsewhere.

    One of the two is left when the file is called.
    """

    def on(name: str, image: jax.Array) -> jax.Array:
        with compiled_for(name):
            return predictor(image)

    cpu, others = (functools.partial(on, name) for name in ("cpu", "tpu"))
    return jax.lax.platform_dependent(image, cpu=cpu, default=others)


def write(predictor: Predictor, output: str | os.PathLike[str]) -> Path:
    """Writes the file, whole or not at all, and returns its path.

    Raises:
      ConfigError: it cannot be written.
    """
    data, path = export(predictor), Path(output)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise ConfigError(
            f"--output={output} cannot be written ({error.strerror}): choose a file in a folder "
            "that exists and that you may write."
        ) from None
    return path


def main(*folders: str) -> None:
    """Exports the network that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        if len(folders) != 1 or not given.method:
            raise ConfigError(f"Name one work folder and a method: {USAGE}")
        asked = {"train_size": given.train_size, "strength": given.strength, "seed": given.seed}
        predictor = load_predictor(folders[0], given.method, **asked)
        print(f"Written to {write(predictor, given.output)}")


if __name__ == "__main__":
    flags.DEFINE_string("method", None, "Of the network: one of the config's losses, by name.")
    flags.DEFINE_integer("train_size", None, "Of the network, where there are several.")
    flags.DEFINE_float("strength", None, "Of the network, where there are several.")
    flags.DEFINE_integer("seed", 0, "Of the network.")
    flags.DEFINE_string("output", "model.jax", "The file to write.")
    commands.run(main, arguments=True)
