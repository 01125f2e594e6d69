"""Pictures of runs made up by hand: drawn once, kept, said where they fail, and on the page."""

import base64
import dataclasses
import io
import json
from types import SimpleNamespace

import pytest
import tiny_folders
from matplotlib.figure import Figure
from parsed_page import Page
from PIL import Image

from experiments import classify
from experiments.report import page, pictures
from experiments.runs.experiment import Picture
from experiments.training.interruption import StoppedError

CONFIG = tiny_folders.make_config(fsdp=1)


class Shown:
    """An experiment whose pictures are blank, and what was asked of it."""

    def __init__(self, fails=()):
        self.fails, self.asked, self.reads = fails, [], 0
        self.experiment = dataclasses.replace(
            classify.CLASSIFICATION, read=self.read, pictures=self.show
        )

    def read(self, config):
        self.reads += 1
        return config["dataset"]

    def show(self, found, data):
        self.asked.append(found)
        assert data() == "digits"
        if found["method"] in self.fails:
            raise RuntimeError("no ink.\nNone.")
        return Picture(Figure((1.2, 0.8)), f"What {found['method']} <shows>.")

    def write(self, folder, config=CONFIG, received=0):
        pictures.write(folder, config, self.experiment, SimpleNamespace(received=received))


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    """What is loaded of a run is what it was asked by."""
    monkeypatch.setattr(pictures.load, "trained", lambda folder, **run: run)


def make(folder, config=CONFIG, **others):
    return tiny_folders.make(folder, config, **{"group": "g0", "steps": 7} | others)


def change(folder, wanted, **changes):
    """Other records of the runs that are wanted."""
    path = folder / "runs.jsonl"
    each = [json.loads(line) for line in path.read_text().splitlines()]
    each = [record | (changes if wanted(record) else {}) for record in each]
    path.write_text("".join(json.dumps(record) + "\n" for record in each))


def test_a_picture_of_each_method_is_kept_and_shown_on_the_page(tmp_path):
    config = tiny_folders.make_config(fsdp=1, train_sizes=[5, 10])
    folder, shown = make(tmp_path / "a", config), Shown()
    shown.write(folder)
    which = {"train_size": 5, "seed": 0}
    assert shown.asked == [
        {"method": "db", "strength": 1.0, **which},  # the chosen one
        {"method": "baseline", "strength": None, **which},
    ]
    assert shown.reads == 1
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert names == {f"{m}.{end}" for m in ("db", "baseline") for end in ("png", "json")}
    read = Page(page.write([folder], tmp_path / "page.html").read_text())
    assert "Pictures" in read.headings
    first, second = (each for each in read.all("img") if each["src"].startswith("data:image/png"))
    assert first["alt"] == "db. What db <shows>. (5 per class, strength 1, seed 0, 7 steps)"
    assert second["alt"] == "baseline. What baseline <shows>. (5 per class, seed 0, 7 steps)"
    png = base64.b64decode(first["src"].partition(",")[2])
    assert png == (folder / "pictures" / "db.png").read_bytes()
    assert Image.open(io.BytesIO(png)).size == (180, 120)
    boards = sorted(path.parent.name for path in folder.glob("training/g0/tensorboard/*/events*"))
    assert boards == [
        "method=baseline__train_size=5__seed=0",
        "method=db__train_size=5__strength=1.0__seed=0",
    ]


def test_a_picture_is_drawn_again_only_when_it_is_of_another_run(tmp_path):
    folder, shown = make(tmp_path / "a"), Shown()
    shown.write(folder)
    shown.write(folder)
    assert (len(shown.asked), shown.reads) == (2, 1)
    change(folder, lambda record: record["method"] == "baseline", train_loss=0.2)
    shown.write(folder)
    assert [found["method"] for found in shown.asked[2:]] == ["baseline"]
    change(folder, lambda record: record["strength"] == 0.1, validation_accuracy=0.99)
    shown.write(folder)  # now that strength is chosen
    assert [found["strength"] for found in shown.asked[3:]] == [0.1]
    (folder / "pictures" / "db.png").unlink()
    shown.write(folder)
    assert [found["method"] for found in shown.asked[4:]] == ["db"]
    shown.write(folder)
    assert len(shown.asked) == 5


def test_what_cannot_be_drawn_is_one_sentence_and_tried_again(tmp_path, capsys):
    folder, shown = make(tmp_path / "a"), Shown(fails=["db"])
    shown.write(folder)
    said = (
        "The report lacks the picture of db, which could not be drawn (RuntimeError: no ink): the "
        "same command tries again."
    )
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "pictures").glob("*.png")) == ["baseline.png"]
    shown.fails = ()
    shown.write(folder)
    assert [found["method"] for found in shown.asked] == ["db", "baseline", "db"]
    assert [each["title"] for each in pictures.stored(page.run_folder.read(folder))] == [
        *("db", "baseline")
    ]


def test_a_full_disk_leaves_no_half_of_a_picture(tmp_path, monkeypatch, capsys):
    folder, shown = make(tmp_path / "a"), Shown()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pictures.files, "replace", full)
        shown.write(folder)
    assert capsys.readouterr().err.count("No space left on device") == 2
    assert list(pictures.stored(page.run_folder.read(folder))) == []
    shown.write(folder)
    assert len(list(pictures.stored(page.run_folder.read(folder)))) == 2


def test_a_signal_stops_before_the_next_picture(tmp_path):
    folder, shown = make(tmp_path / "a"), Shown()
    with pytest.raises(StoppedError):
        shown.write(folder, received=15)
    assert shown.asked == []
    shown.write(folder)
    shown.write(folder, received=15)  # nothing is left to stop


@pytest.mark.parametrize("fields", [{"diverged": "20: total"}, {"train_loss": None}])
def test_a_network_that_diverged_shows_nothing(fields, tmp_path):
    folder, shown = make(tmp_path / "a"), Shown()
    change(folder, lambda record: record["method"] == "baseline", **fields)
    shown.write(folder)
    assert [found["method"] for found in shown.asked] == ["db"]


@pytest.mark.parametrize(("fsdp", "local", "count"), [(1, 2, 2), (2, 2, 2), (2, 3, 0), (4, 2, 0)])
def test_no_process_draws_with_a_part_of_a_network(
    fsdp, local, count, tmp_path, monkeypatch, capsys
):
    folder, shown = make(tmp_path / "a"), Shown()
    monkeypatch.setattr(pictures.jax, "process_count", lambda: 6)
    monkeypatch.setattr(pictures.jax, "local_device_count", lambda: local)
    shown.write(folder, CONFIG | {"fsdp": fsdp})
    assert len(shown.asked) == count
    said = f"config.fsdp={fsdp}: the same command in one process draws them."
    assert (said in capsys.readouterr().err) == (not count)


def test_methods_whose_names_differ_by_signs_have_pictures_of_their_own(tmp_path):
    losses = {"a b": "cross_entropy", "a_b": "cross_entropy", "a/b": "cross_entropy"}
    folder = make(tmp_path / "a", tiny_folders.make_config(losses=losses, strengths={}, fsdp=1))
    shown = Shown()
    shown.write(folder)
    shown.write(folder)
    assert len(shown.asked) == 3
    found = list(pictures.stored(page.run_folder.read(folder)))
    assert [each["title"] for each in found] == list(losses)
    assert [each["text"].partition(" (")[0] for each in found] == [
        f"What {name} <shows>." for name in losses
    ]


def test_an_experiment_without_pictures_reads_nothing(tmp_path):
    folder = tmp_path / "nowhere"  # to read it would be an error
    pictures.write(folder, CONFIG, classify.CLASSIFICATION, SimpleNamespace())
    assert not folder.exists()
