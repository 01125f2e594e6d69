"""A folder of copies: what is in it, what a kill leaves, what is refused.

Covers `signing.py` too. Networks are linear, so that moves have a closed form.
"""

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError
from experiments.data import sources
from experiments.data.spec import Spec
from experiments.runs import copies as written
from experiments.runs.copies import Copies
from experiments.runs.load import Predictor
from experiments.runs.signing import Recipe, Source
from experiments.training.interruption import Interruption, StoppedError

RNG = np.random.default_rng(0)
SHAPE, CLASSES = (3, 2, 1), 2
KERNEL = RNG.normal(size=(6, 4)).astype(np.float32)
IMAGE = RNG.integers(0, 256, (12, *SHAPE)).astype(np.uint8)
LABEL = (np.arange(12) % CLASSES).astype(np.int32)
SPLITS = {"train": np.array([0, 2, 3, 5, 6]), "test": np.array([8, 9, 11])}
SLOPE = KERNEL.sum(1).reshape(SHAPE)


def network(kernel: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    scaled = x.astype(jnp.float32) / (255 if x.dtype == jnp.uint8 else 1)
    features = scaled.reshape(len(x), -1) @ kernel
    return features[:, :CLASSES], features


def quadratic(kernel: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    features = network(kernel, x)[1] ** 2
    return features[:, :CLASSES], features


def flat(kernel: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits, features = network(kernel, x)
    return logits, jax.lax.stop_gradient(features)


def source(fn: Any = network, name: str = "a") -> Source:
    forward = rj.from_function(fn, jnp.asarray(KERNEL), head=lambda kernel: (kernel, None))
    example = {"image": jax.ShapeDtypeStruct(SHAPE, np.uint8)}
    predictor = Predictor(forward, Spec(example, CLASSES, ("cat", "dog")))
    about = {"network": name, "images": "b", "method": "baseline"}
    return Source(predictor, about, {"image": IMAGE, "label": LABEL}, SPLITS)


class Bar:
    """Counts images, and stops the work after some."""

    def __init__(self, interruption: Interruption, stop: int = -1) -> None:
        self.moved, self._interruption, self._stop = 0, interruption, stop

    def update(self, count: int) -> None:
        self.moved += count
        if self.moved == self._stop:
            self._interruption.received = 15


def write(copies: Copies, stop: int = -1) -> int:
    interruption = Interruption()
    bar = Bar(interruption, stop)
    copies.write(2, interruption, bar)
    return bar.moved


# Of the module, so that `whole` is made on one device too: two round a pair of images otherwise.
@pytest.fixture(autouse=True, scope="module")
def _no_devices_to_spread_over() -> Iterator[None]:
    first = jax.local_devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: first)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Copies:
    folder = tmp_path_factory.mktemp("whole")
    copies = Copies(folder, source(), Recipe(iterations=(2, 5), step=4000.0))
    assert copies.left == 5
    assert write(copies) == 5
    return copies


def test_it_is_a_data_set_of_copies_and_untouched_test_images(whole: Copies) -> None:
    found = sources.load(f"npz:{whole.folder}")
    move = np.array([2, 5]).reshape(1, 2, 1, 1, 1) * 4000 / 255**2 * SLOPE
    expected = (IMAGE[SPLITS["train"]][:, None] / 255 + move).reshape(-1, *SHAPE)
    np.testing.assert_allclose(found.train["image"], expected, atol=1e-6)
    assert found.train["image"].min() < 0
    np.testing.assert_array_equal(found.train["label"], np.repeat(LABEL[SPLITS["train"]], 2))
    np.testing.assert_array_equal(found.source, np.repeat(SPLITS["train"], 2))
    np.testing.assert_allclose(found.test["image"], IMAGE[SPLITS["test"]] / 255, atol=1e-7)
    np.testing.assert_array_equal(found.test["label"], LABEL[SPLITS["test"]])
    assert found.class_names == ("cat", "dog")
    assert [path.name for path in whole.folder.glob("*.part")] == []


def test_images_and_labels_are_called_what_the_runs_config_calls_them(tmp_path: Any) -> None:
    write(Copies(tmp_path, source()._replace(keys=("picture", "kind")), Recipe((1,), 4000.0)))
    found = sources.load(f"npz:{tmp_path}", label="kind", options=sources.Options(image="picture"))
    np.testing.assert_array_equal(found.train["label"], LABEL[SPLITS["train"]])
    np.testing.assert_array_equal(found.test["label"], LABEL[SPLITS["test"]])


def test_it_says_who_made_it_how_and_what_was_watched(whole: Copies) -> None:
    about = json.loads((whole.folder / written.ABOUT).read_text())
    assert about["method"] == "baseline"
    assert about["recipe"]["iterations"] == [2, 5]
    distance, growth = (np.array(about["measures"][n]) for n in ("distance", "growth"))
    np.testing.assert_allclose(
        distance, np.array([0, 2, 5]) * 4000 / 255 * np.abs(SLOPE).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(growth, [0, 1, 1], rtol=1e-5)
    image = IMAGE[SPLITS["train"]] / 255
    for i, count in enumerate((0, 2, 5)):
        copy = image + count * 4000 / 255**2 * SLOPE
        right = (copy.reshape(5, -1) @ KERNEL[:, :2]).argmax(1) == LABEL[SPLITS["train"]]
        np.testing.assert_allclose(about["measures"]["correct"][i], right.mean())
        np.testing.assert_allclose(about["measures"]["negative"][i], (copy < 0).mean())
    _, rule, *rows = whole.table().splitlines()
    assert [row.split(" | ")[0] for row in rows] == [
        "| originals",
        "| 2 iterations",
        "| 5 iterations",
    ]
    assert rule == "| --- | --- | --- | --- | --- |"
    assert f"{distance[1]:.3g}" in rows[1]


def test_what_is_finished_is_not_made_again(whole: Copies) -> None:
    again = Copies(whole.folder, source(), whole.recipe)
    assert again.finished
    assert again.table() == whole.table()


@pytest.mark.parametrize("torn", [pytest.param(False, marks=pytest.mark.slow), True])
def test_stopped_or_killed_it_goes_on_to_the_same_bytes(
    torn: bool, whole: Copies, tmp_path: Any
) -> None:
    with pytest.raises(StoppedError):
        write(Copies(tmp_path, source(), whole.recipe), stop=4)
    with pytest.raises(sources.DataError, match="but no 'train_image'"):
        sources.load(f"npz:{tmp_path}")
    if torn:
        with (tmp_path / "train_image.npy.part").open("ab") as file:
            file.write(b"half a row")
        with (tmp_path / written.PROGRESS).open("ab") as file:
            file.write(b'{"split": "tr')
    copies = Copies(tmp_path, source(), whole.recipe)
    assert copies.left == 1
    assert write(copies) == 1
    names = sorted(path.name for path in whole.folder.glob("*.npy"))
    assert len(names) == 7
    for name in [*names, written.ABOUT]:
        assert (tmp_path / name).read_bytes() == (whole.folder / name).read_bytes(), name


@pytest.mark.parametrize("recipe", [Recipe((2, 5), 4000.0), Recipe((1,), 4000.0, delta=True)])
@pytest.mark.parametrize("finished", [1, 2])
def test_killed_when_files_are_whole_it_ends_with_the_same_bytes(
    finished: int, recipe: Recipe, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls = written.ArrayFile.finish, []

    def killed(file: Any) -> None:
        finish(file)
        calls.append(1)
        if len(calls) == finished:
            raise KeyboardInterrupt

    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    write(Copies(folders[0], source(), recipe))
    with monkeypatch.context() as patch:
        patch.setattr(written.ArrayFile, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            write(Copies(folders[1], source(), recipe))
    write(Copies(folders[1], source(), recipe))
    found = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert found[0] == found[1]


def test_killed_before_it_said_what_it_makes_it_begins(whole: Copies, tmp_path: Any) -> None:
    (tmp_path / f"{written.ABOUT}.part").write_text("{")
    assert Copies(tmp_path, source(), whole.recipe).left == 5


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float16"])
def test_moves_alone_are_divided_by_their_deviation(dtype: str, tmp_path: Any) -> None:
    copies = Copies(tmp_path, source(quadratic), Recipe((1,), delta=True), dtype)
    assert copies.left == 8
    write(copies)
    slope = 2 * (IMAGE.reshape(12, -1) / 255) @ KERNEL @ KERNEL.T / 255
    train, test = (slope[places].reshape(-1, *SHAPE) for places in SPLITS.values())
    found = sources.load(f"npz:{tmp_path}")
    tolerance = {"float32": 1e-5, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(found.train["image"], train / train.std(), atol=tolerance)
    np.testing.assert_allclose(found.test["image"], test / train.std(), atol=tolerance)
    np.testing.assert_allclose(copies.about["scale"], train.std(), rtol=1e-5)
    np.testing.assert_array_equal(found.test["label"], LABEL[SPLITS["test"]])
    assert [path.name for path in tmp_path.glob("*_moved*")] == []


@pytest.mark.parametrize(
    ("fn", "name", "recipe", "says"),
    [
        (network, "c", Recipe((2, 5), 4000.0), "made in another way (network: 'a', now 'c')"),
        (network, "a", Recipe((2, 5), 1.0), "made in another way (recipe: "),
    ],
)
def test_a_folder_of_other_copies_is_refused(
    fn: Any, name: str, recipe: Recipe, says: str, whole: Copies
) -> None:
    with pytest.raises(ConfigError) as caught:
        Copies(whole.folder, source(fn, name), recipe)
    assert says in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Any) -> None:
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ConfigError, match=r"holds 'letters.txt' and no sign.json: choose an empty"):
        Copies(tmp_path, source(), Recipe())


def test_too_little_room_is_said_before_anything_is_moved(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = written.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(written.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(ConfigError, match=r"needs .* GB, but 1e-07 GB are free"):
        Copies(tmp_path, source(), Recipe())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_sentence_and_the_same_command_goes_on(
    whole: Copies, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(tmp_path, source(), whole.recipe)
    append, calls = written.ArrayFile.append, []

    def full(file: Any, rows: np.ndarray) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        append(file, rows)

    monkeypatch.setattr(written.ArrayFile, "append", full)
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\): make"):
        write(copies)
    copies = Copies(tmp_path, source(), whole.recipe)
    assert copies.left == 3
    write(copies)
    expected = (whole.folder / "train_image.npy").read_bytes()
    assert (tmp_path / "train_image.npy").read_bytes() == expected


@pytest.mark.parametrize(
    ("recipe", "dtype", "says"),
    [
        (
            Recipe((500,), 3e38),
            "float32",
            "A copy among the 2 first train images is not finite",
        ),
        (Recipe((1,), 1e10), "float16", "is not finite: take a smaller --step"),
        (Recipe((1,), delta=True), "float32", "No image was moved, since all gradients are 0"),
    ],
)
def test_copies_that_are_none_are_one_sentence(
    recipe: Recipe, dtype: str, says: str, tmp_path: Any
) -> None:
    fn = flat if recipe.delta else network
    with pytest.raises(ConfigError, match=says):
        write(Copies(tmp_path, source(fn), recipe, dtype))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"iterations": (1, 2), "delta": True}, "--delta keeps one move of every image"),
        ({"iterations": (2, 2)}, r"--iterations are each named once, not \[2, 2\]"),
        ({"step": float("nan")}, "--step must be finite, but it is nan"),
        ({"momentum": 2.0}, "--momentum=2 must be a share of the last move, from 0 to below 1"),
        ({"momentum": 1.0}, "--momentum=1 must be"),
        ({"momentum": -0.5}, "--momentum=-0.5 must be"),
        ({"iterations": (0,), "delta": True}, "--delta keeps moves, but without --iterations"),
        ({"iterations": (1,), "step": 0.0, "delta": True}, "or with --step=0 there are none"),
        ({"clip": (1, 0)}, r"clip must be None, 'relu' or \(low, high\)"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_sentence(given: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Recipe(**given)
