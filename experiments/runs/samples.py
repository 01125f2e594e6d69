"""What a generator makes, written to a folder that is a data set."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ConfigError
from experiments.runs import folder as folders
from experiments.runs.generator import Generator, generator
from experiments.runs.lines import read_object
from experiments.runs.load import Trained, trained

ABOUT = "samples.json"
AT_ONCE = 250  # images that are made together
OF_EACH = 10  # images of a class in a picture


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How many images are made.

    Attributes:
      per_class: the number of training images of each class.
      test_per_class: the number of test images of each class.
      key: the number of what is drawn; another one gives other images.
    """

    per_class: int = 1000
    test_per_class: int = 100
    key: int = 0


def write(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str],
    recipe: Recipe,
    *,
    method: str = "",
    **which: Any,
) -> Path:
    """Writes images of a run's generator, which `config.mixture = {"npz:OUTPUT": 1 / 6}` mixes in.

    The folder gets uint8 images and their labels by split, the classes' names, and `samples.json`,
    which says which run they are of. It appears when all is written; the same call gives the same
    images, and leaves a folder as it is that holds them.

    Args:
      run: a work folder of `experiments.generate`.
      output: the folder.
      recipe: how many images.
      method: of the run, one of the config's losses; "" where there is only one.
      **which: what tells the run from others of the method, as in `load.load`.

    Returns:
      The folder.

    Raises:
      ValueError: there is no such run, or it trained no generator.
      ConfigError: the folder holds something else, or cannot be written.

    Example:
      `write("runs/generators", "samples", Recipe(per_class=1000), method="cgan")`
    """
    found, folder = trained(run, method or folders.read(run).only_method, **which), Path(output)
    about = _about(str(run), found, recipe)
    stored = read_object(folder / ABOUT)
    if stored == about:
        return folder
    if folder.exists() and (stored or any(folder.iterdir())):
        raise ConfigError(
            f"--output={folder} holds something else than these samples: choose another folder."
        )
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a command that was killed
        part.mkdir(parents=True)
        _write_arrays(part, found, recipe)
        (part / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        part.replace(folder)
    except OSError as error:
        raise ConfigError(
            f"--output={folder} cannot be written ({error.strerror or error})."
        ) from None
    return folder


def _about(run: str, found: Trained, recipe: Recipe) -> dict[str, Any]:
    config = {name: found.config[name] for name in ("dataset", "model")}
    which = {"run": run, **dataclasses.asdict(found.run), "steps": found.steps, **config}
    about: dict[str, Any] = json.loads(json.dumps(which | dataclasses.asdict(recipe)))
    return about


def _write_arrays(folder: Path, found: Trained, recipe: Recipe) -> None:
    make = generator(found)
    splits = {"train": recipe.per_class, "test": recipe.test_per_class}
    for number, (split, count) in enumerate(splits.items()):
        label = np.arange(count * make.classes, dtype=np.int32) % make.classes
        key = jax.random.fold_in(jax.random.key(recipe.key), number)
        np.save(folder / f"{split}_image.npy", images(make, key, label))
        np.save(folder / f"{split}_label.npy", label)
    np.save(folder / "class_names.npy", np.array(found.spec.class_names))


def of_each_class(make: Generator) -> np.ndarray:
    """Ten images of each class, float32 `[C, 10, H, W, K]`, in [0, 1]; always the same ones.

    Args:
      make: the generator.
    """
    label = np.repeat(np.arange(make.classes, dtype=np.int32), OF_EACH)
    image = np.asarray(jax.jit(make.draw)(jax.random.key(1), label))
    return image.reshape(make.classes, OF_EACH, *make.image_shape)


def images(make: Generator, key: jax.Array, label: np.ndarray) -> np.ndarray:
    """Images of labels `[N]` as they are stored, uint8 `[N, H, W, K]`.

    Image n depends on the key, n and its label alone.

    Args:
      make: the generator.
      key: of all images.
      label: int32 `[N]`.
    """

    @jax.jit
    def some(make: Generator, number: jax.Array, label: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
        return jnp.round(255 * make.drawn(keys, label)).astype(jnp.uint8)

    size = min(AT_ONCE, len(label))
    found = []
    for first in range(0, len(label), size):
        number = np.arange(first, first + size) % len(label)
        found.append(np.asarray(some(make, number, label[number])))
    return np.concatenate(found)[: len(label)]
