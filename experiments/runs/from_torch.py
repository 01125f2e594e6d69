"""A file of torchvision's weights as a work folder, which everything reads that reads trained runs.

    python -m experiments.runs.from_torch resnet50.pth --model=resnet50 --workdir=runs/imported

The folder holds one finished run, of the method "imported", without scores. A network of the
exported names comes back bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import regjax as rj
from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.models import torch_names
from experiments.runs import about, commands, entries, experiment, journal, weight_files
from experiments.training.checkpoints import Checkpoints

USAGE = "python -m experiments.runs.from_torch resnet50.pth --model=resnet50 --workdir=runs/new"
METHOD, LOSS = "imported", "cross_entropy"
# ImageNet's, of pixels in [0, 1]: what torchvision's networks were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def import_weights(
    file: str | os.PathLike[str],
    workdir: str | os.PathLike[str],
    *,
    model: str,
    image_size: int = 224,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Path:
    """Makes a work folder with a network of torchvision's as its only run.

    Args:
      file: `.pth`, `.safetensors` or `.npz`, with the state dict and nothing else.
      workdir: a new folder.
      model: the network that it is of, as `config.model` has it.
      image_size: the side of the images that it will see, in pixels.
      mean: of the normalisation that it was trained with, of pixels in [0, 1].
      std: likewise.

    Returns:
      The folder: `load(workdir, "imported")` is the network.

    Raises:
      ConfigError: the file cannot be read or is of another network, or the folder is not empty.

    Example:
      `import_weights("resnet50.pth", "runs/imported", model="resnet50")`
    """
    folder = Path(workdir)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: choose a new --workdir for the network.")
    try:
        torch_names.check(model)
        arrays = weight_files.read(Path(file))
        spec = _spec(image_size, torch_names.classes(arrays))
        config = _config(model, image_size, mean, std)
        state = _state(config, spec, model, arrays)
    except ValueError as error:
        raise ConfigError(f"{file} cannot be imported: {error}") from None
    _write(folder, config, spec, state)
    return folder


def _spec(size: int, classes: int) -> Spec:
    image = jax.ShapeDtypeStruct((size, size, 3), np.uint8)
    label = jax.ShapeDtypeStruct((), np.int32)
    return Spec({"image": image, "label": label}, classes, tuple(map(str, range(classes))))


def _config(model: str, size: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    own = {"model": model, "image_size": size, "mean": tuple(mean), "std": tuple(std)}
    rest = {"losses": {METHOD: LOSS}, "train_sizes": (1,), "seeds": 1, "epochs": 1}
    return {**entries.defaults(), **own, **rest, "selection": "test"}


def _state(config: Mapping[str, Any], spec: Spec, model: str, arrays: Any) -> Any:
    """The state at the end of a run with these parameters."""
    task = experiment.find(about.About().experiment).task(config, spec, 1.0)
    like = jax.eval_shape(task.init, np.uint32(0), rj.parse(LOSS))
    given = torch_names.from_torch(model, arrays, like.params, like.model_state)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    params, averages = jax.tree.map(jnp.asarray, given)
    return empty._replace(step=jnp.ones_like(empty.step), params=params, model_state=averages)


def _write(folder: Path, config: Mapping[str, Any], spec: Spec, state: Any) -> None:
    known = about.About(spec=spec)
    with journal.alone(folder):
        kept = journal.Journal(folder, config)
        about.write(folder, known)
        with Checkpoints(folder / "training" / METHOD / "checkpoints", keep=1, belongs_to={}) as c:
            c.save(1, state, {})
        run = {"method": METHOD, "loss": repr(rj.parse(LOSS)), "train_size": 1, "strength": None}
        scores = {f"test_{known.score}": None, f"validation_{known.score}": None}
        place = {"group": METHOD, "place": 0, "together": 1, "steps": 1}
        kept.runs.append([run | {"seed": 0, "train_loss": None} | scores | place])


def main(*files: str) -> None:
    """Imports the file that the command line names."""
    given = flags.FLAGS
    with commands.ends():
        if len(files) != 1 or not given.model or not given.workdir:
            raise ConfigError(f"Name one file, its model and a new folder: {USAGE}")
        own = {"mean": [*map(float, given.mean)], "std": [*map(float, given.std)]}
        size = given.image_size
        folder = import_weights(files[0], given.workdir, model=given.model, image_size=size, **own)
        print(f"Written to {folder}, as the method {METHOD!r}.")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "The network that the file is of, as config.model has it.")
    flags.DEFINE_string("workdir", None, "The new folder.")
    flags.DEFINE_integer("image_size", 224, "The side of the images, in pixels.", lower_bound=1)
    flags.DEFINE_list("mean", [*map(str, MEAN)], "Of pixels in [0, 1], by channel.")
    flags.DEFINE_list("std", [*map(str, STD)], "Likewise.")
    commands.run(main, arguments=True)
