"""Signed copies of images, or the moves alone, written to a folder that is a data set."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import ConfigError
from experiments.data import array_file
from experiments.data.array_file import ArrayFile
from experiments.runs import signing
from experiments.runs.lines import Lines, read_object
from experiments.runs.signing import LEVELS, MEASURES, Recipe, Source
from experiments.training.interruption import Interruption, StoppedError

ABOUT, PROGRESS = "sign.json", "progress.jsonl"
SAME = ("network", "images", "recipe", "dtype")
SUMS = ("total", "squares")  # of all that is kept, for its deviation
AT_ONCE = 1024  # images in memory while files are written


class Copies:
    """A folder of copies, finished or not.

    Attributes:
      folder: the folder; `config.dataset = "npz:FOLDER"` reads it once it is finished.
      source: the network and its images.
      recipe: how they are moved.
      about: what sign.json says.
    """

    def __init__(
        self, folder: Path, source: Source, recipe: Recipe, dtype: str = "float32"
    ) -> None:
        """Opens the folder, or begins it.

        Raises:
          ConfigError: it holds something else, is damaged, or has too little room.
        """
        self.folder, self.source, self.recipe = folder, source, recipe
        self._dtype = np.dtype(dtype)
        self.about = {**source.about, "recipe": dataclasses.asdict(recipe), "dtype": dtype}
        self.about = json.loads(json.dumps(self.about))
        self._check()
        self._lines = Lines(folder / PROGRESS, _is_progress, writes=True)
        self._each = len(recipe.iterations)
        image, self._label = source.keys
        self._final = {split: self._file(f"{split}_{image}", split) for split in source.splits}
        self._moved = {"train": self._final["train"]}
        if recipe.delta:  # they are divided by their deviation when all are known
            self._moved = {split: self._file(f"{split}_moved", split) for split in source.splits}
        self._begin()

    @property
    def finished(self) -> bool:
        """Whether all is written."""
        return "measures" in self.about

    @property
    def left(self) -> int:
        """The number of images that are still to be moved."""
        return sum(self._count(split) - self._done(split) for split in self._moved)

    def write(self, batch: int, interruption: Interruption, bar: Any) -> None:
        """Moves the images that are left, so many at once, and finishes the folder.

        Raises:
          StoppedError: a signal was received; all is saved.
          ConfigError: the disk is full, or a copy is not finite.
        """
        batch = min(batch, max(map(self._count, self._moved)))
        move = signing.move(self.source, self.recipe, batch)
        for split, file in self._moved.items():
            places = self.source.splits[split]
            for first in range(self._done(split), len(places), batch):
                image, label = self._taken(places[first : first + batch])
                copies, watched = move(image, label)
                self._keep(split, file, first + len(image), copies, watched)
                bar.update(len(image))
                if interruption.received:
                    raise StoppedError(interruption.received, 0)
        self._finish()

    def table(self) -> str:
        """What was watched while the images were moved, as Markdown."""
        return signing.table(self.recipe.iterations, self.about["measures"])

    def _check(self) -> None:
        path = self.folder / ABOUT
        stored = read_object(path)
        if not stored:
            ours = (".lock", PROGRESS, f"{ABOUT}.part")
            there = [p.name for p in self.folder.iterdir() if p.name not in ours]
            if there:
                raise ConfigError(
                    f"--output={self.folder} holds {sorted(there)[0]!r} and no {ABOUT}: choose an "
                    "empty folder, or one that this command began."
                )
            return
        if changed := [name for name in SAME if stored.get(name) != self.about[name]]:
            each = (f"{n}: {stored.get(n)!r}, now {self.about[n]!r}" for n in changed)
            raise ConfigError(
                f"--output={self.folder} holds copies that were made in another way "
                f"({'; '.join(each)}): choose another --output."
            )
        self.about = stored

    def _begin(self) -> None:
        if self.finished:
            return
        self._check_room()
        with self._writing():
            self._write_about()
            self._write_labels()
            for split, file in self._moved.items():
                file.go_on(self._done(split) * self._each)

    def _check_room(self) -> None:
        files = {file.path: file for each in (self._moved, self._final) for file in each.values()}
        needed = sum(file.left for file in files.values())
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise ConfigError(
                f"--output={self.folder} needs {needed / 1e9:.2g} GB, but {free / 1e9:.2g} GB are "
                "free: choose another disk, fewer --iterations or --dtype=float16."
            )

    def _taken(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stored = self.source.stored
        image, label = stored["image"][np.asarray(places)], stored["label"][np.asarray(places)]
        return np.asarray(image), np.asarray(label)

    def _keep(
        self,
        split: str,
        file: ArrayFile,
        stop: int,
        copies: np.ndarray,
        watched: Mapping[str, np.ndarray],
    ) -> None:
        with np.errstate(over="ignore"):
            sound = np.isfinite(copies.astype(file.dtype)).all()
        if not sound:
            raise ConfigError(
                f"A copy among the {stop} first {split} images is not finite: take a smaller "
                "--step, --normalize=rms or --clip."
            )
        sums = {name: x.sum(0, dtype=np.float64).tolist() for name, x in watched.items()}
        whole = copies.astype(np.float64)
        sums |= {"total": [whole.sum()], "squares": [np.square(whole).sum()]}
        with self._writing():
            file.append(copies.reshape(-1, *copies.shape[2:]))
            self._lines.append([{"split": split, "stop": stop, **sums}])

    def _finish(self) -> None:
        scale = self._scale()
        with self._writing():
            for split, file in self._final.items():
                # Those that are whole were so when a kill came.
                if file is not self._moved.get(split) and not file.path.exists():
                    file.go_on(0)
                    for rows in self._rows(split):
                        file.append(rows / np.float32(scale))
                file.finish()
            self.about |= {"scale": scale, "measures": self._measures()}
            self._write_about()
            for raw in self._moved.values():
                raw.part.unlink(missing_ok=True)

    def _rows(self, split: str) -> Iterator[np.ndarray]:
        """The images of a split that is not written yet, but for the scale."""
        if split in self._moved:
            yield from self._moved[split].rows(AT_ONCE)
            return
        places = self.source.splits[split]
        for first in range(0, len(places), AT_ONCE):
            image, _ = self._taken(places[first : first + AT_ONCE])
            yield image / np.float32(LEVELS) if image.dtype == np.uint8 else image

    def _scale(self) -> float:
        """What moves are divided by, the standard deviation of those of the training images."""
        if not self.recipe.delta:
            return 1.0
        total, squares = (sum(line[name][0] for line in self._of("train")) for name in SUMS)
        count = self._count("train") * math.prod(self.source.predictor.spec.shape)
        variance = squares / count - (total / count) ** 2
        if not variance > 0:
            raise ConfigError("No image was moved, since all gradients are 0.")
        return math.sqrt(variance)

    def _measures(self) -> dict[str, list[float]]:
        """The means over the training images."""
        count, lines = self._count("train"), self._of("train")
        sums = {name: np.sum([line[name] for line in lines], axis=0) for name in MEASURES}
        return {name: (x / count).tolist() for name, x in sums.items()}

    def _write_labels(self) -> None:
        spec = self.source.predictor.spec
        for split, places in self.source.splits.items():
            each = self._each if split == "train" else 1
            _, label = self._taken(places)
            array_file.write(self.folder / f"{split}_{self._label}.npy", np.repeat(label, each))
        source = np.repeat(self.source.splits["train"], self._each)
        array_file.write(self.folder / "train_source.npy", source)
        array_file.write(self.folder / "class_names.npy", np.array(spec.class_names))
        most = float(np.finfo(np.float32).max)
        array_file.write(self.folder / "image_range.npy", np.array([-most, most]))

    def _write_about(self) -> None:
        part = self.folder / f"{ABOUT}.part"
        part.write_text(json.dumps(self.about, indent=2) + "\n", encoding="utf-8")
        part.replace(self.folder / ABOUT)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"--output={self.folder} cannot be written ({error.strerror or error}): make room "
                "there, and the same command goes on."
            ) from None

    def _file(self, name: str, split: str) -> ArrayFile:
        count = self._count(split) * (self._each if split == "train" else 1)
        dtype = np.float32 if name.endswith("moved") else self._dtype
        shape = (count, *self.source.predictor.spec.shape)
        return ArrayFile(self.folder / f"{name}.npy", shape, dtype)

    def _count(self, split: str) -> int:
        return len(self.source.splits[split])

    def _of(self, split: str) -> list[dict[str, Any]]:
        return [line for line in self._lines.records if line["split"] == split]

    def _done(self, split: str) -> int:
        return max((line["stop"] for line in self._of(split)), default=0)


def _is_progress(record: Mapping[str, Any]) -> bool:
    names = (*MEASURES, *SUMS)
    lists = all(isinstance(record.get(name), list) for name in names)
    return lists and isinstance(record.get("split"), str) and isinstance(record.get("stop"), int)
