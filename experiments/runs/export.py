"""A trained network as a file that needs no regjax: a program for jax, or weights for torch.

    python -m experiments.runs.export runs/digits --method=db --output=model.jax
    python -m experiments.runs.export runs/isda_table1 --method=ISDA --format=torchvision

The program needs jax and flatbuffers: `jax.export.deserialize(Path("model.jax").read_bytes()).call`
is a function from images uint8 `[B, H, W, K]` as they were stored to logits `[B, C]`: the
normalisation is part of it. The file is for any number of images and for every platform of
`PLATFORMS`. The weights are without normalisation; `weights` says what they are.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
from absl import flags

from experiments import ConfigError, compiled_for
from experiments.models import torch_names
from experiments.runs import commands, weight_files
from experiments.runs.load import Predictor, Trained, predictor, trained

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
    """Writes the program, whole or not at all, and returns its path.

    Raises:
      ConfigError: it cannot be written.
    """
    data = export(predictor)
    return _written(output, lambda path: path.write_bytes(data))


def weights(found: Trained, format: str, output: str | os.PathLike[str]) -> Path:
    """Writes a network's parameters with torchvision's names and layouts; returns the path.

    What is read into torchvision's network of that name, with as many classes, has the same logits
    in evaluation, for images that are normalised as in training; see `torch_names` for BatchNorm.
    Words about that are the metadata of a safetensors file.

    Args:
      found: as `trained` returns it; of its moving average, where it has one.
      format: "torchvision", which is torch's own `.pth`, "safetensors" or "npz".
      output: the file.

    Raises:
      ConfigError: torchvision has no such network, torch is needed, or it cannot be written.

    Example:
      `weights(trained("runs/isda", "isda"), "safetensors", "resnet50.safetensors")`
    """
    weight_files.check(format)
    network, model = found.task.network(found.state), found.config["model"]
    try:
        arrays = torch_names.to_torch(model, network.params, network.state, found.steps)
    except ValueError as error:
        raise ConfigError(f"The weights cannot be exported: {error}") from None
    about = {"model": model, **{n: str(found.config[n]) for n in ("mean", "std", "whiten")}}
    return _written(output, lambda path: weight_files.save(path, format, arrays, about))


def _written(output: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    path = Path(output)
    part = path.with_name(f"{path.name}.part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise ConfigError(
            f"--output={output} cannot be written ({error.strerror or error}): choose a file in a "
            "folder that exists and that you may write."
        ) from None
    return path


def main(*folders: str) -> None:
    """Exports the network that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        if len(folders) != 1 or not given.method:
            raise ConfigError(f"Name one work folder and a method: {USAGE}")
        asked = {"train_size": given.train_size, "strength": given.strength, "seed": given.seed}
        found = trained(folders[0], given.method, **asked)
        if given.format == "jax":
            print(f"Written to {write(predictor(found), given.output or 'model.jax')}")
        else:
            ending = weight_files.ENDINGS[given.format][0]
            path = weights(found, given.format, given.output or f"model{ending}")
            print(f"Written to {path}. {_images(found)}")


def _images(found: Trained) -> str:
    """What must be done to images before the network sees them."""
    mean, std, whiten = (found.config[name] or None for name in ("mean", "std", "whiten"))
    text = f"Its images are RGB in [0, 1], less the mean {mean or 0}, by the deviation {std or 1}"
    return f"{text}{f', then whitened by {whiten!r}' if whiten else ''}."


if __name__ == "__main__":
    flags.DEFINE_string("method", None, "Of the network: one of the config's losses, by name.")
    flags.DEFINE_integer("train_size", None, "Of the network, where there are several.")
    flags.DEFINE_float("strength", None, "Of the network, where there are several.")
    flags.DEFINE_integer("seed", 0, "Of the network.")
    formats = ["jax", *weight_files.ENDINGS]
    flags.DEFINE_enum("format", "jax", formats, "A program for jax, or weights for torch.")
    flags.DEFINE_string("output", None, "The file to write; model.jax, model.pth and so on.")
    commands.run(main, arguments=True)
