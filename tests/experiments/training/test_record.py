"""The record: a line a run, none twice and none missing, readable by strict readers."""

import gc
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from experiments.training import record as module
from experiments.training.record import Record, slug

OF = {"method": "db", "train_size": 5, "strength": 0.1}
RUNS = [OF | {"seed": seed} for seed in (0, 1)]


def record(folder: Path, *steps: int, after: int = 0, runs: Any = RUNS) -> Path:
    """Records some steps, from the step `after` on."""
    with Record(folder, runs, after) as mine:
        for step in steps:
            mine.record("train", step, step / 8, {"total": np.array([step, step + 0.5])})
        mine.sync()
    return folder / "metrics.jsonl"


def steps(path: Path) -> list[tuple[int, int]]:
    lines = path.read_text().splitlines()
    return [(line["step"], line["seed"]) for line in map(json.loads, lines)]


def test_a_line_for_each_run_with_its_own_numbers(tmp_path):
    values = {
        "total": np.array([1.5, 2.5], np.float32),
        "learning_rate": 0.1,
        "images_per_second": None,
        "gradient_norm": np.array([np.inf, 3]),
        "one_for_all": np.float32(np.nan),
    }
    with Record(tmp_path, RUNS, 0) as mine:
        mine.record("train", 20, 20 / 24, values)
    shared = {"kind": "train", "step": 20, "epoch": 0.833333, **OF, "learning_rate": 0.1}
    shared |= {"images_per_second": None, "one_for_all": None}
    assert [json.loads(line) for line in mine.path.read_text().splitlines()] == [
        {**shared, "seed": 0, "total": 1.5, "gradient_norm": None},
        {**shared, "seed": 1, "total": 2.5, "gradient_norm": 3.0},
    ]


def test_a_method_without_a_strength_has_none(tmp_path):
    label = {"method": "plain", "train_size": 0, "strength": None, "seed": 3}
    line = json.loads(record(tmp_path, 20, runs=[label]).read_text())
    assert {name: line[name] for name in label} == label
    assert [board.name for board in boards(tmp_path)] == ["method=plain__train_size=0__seed=3"]


def test_lines_after_the_step_that_training_goes_on_from_are_written_again(tmp_path):
    record(tmp_path, 20, 40, 60)
    path = record(tmp_path, 60, 80, after=40)
    assert steps(path) == [(s, seed) for s in (20, 40, 60, 80) for seed in (0, 1)]
    assert steps(record(tmp_path, 20)) == [(20, 0), (20, 1)]  # no checkpoint: from the start
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


@pytest.mark.parametrize(
    "rest",
    [
        b'{"kind": "train", "step": 60, "ep',
        b'{"kind": "train", "step": 20}',  # whole, but who knows
        b"\0" * 4096,
        b"\0" * 100 + b"\n",
        b"\xff\xfe\n",
        b"[20]\n",
        b"17\n",
        b'{"kind": "train"}\n',
        b'{"step": null}\n',
        b"\n",
    ],
)
def test_what_a_kill_or_a_full_disk_leaves_of_a_line_goes(rest, tmp_path):
    path = record(tmp_path, 20, 40)
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    record(tmp_path, after=40)
    assert path.read_bytes() == whole


def test_a_kill_while_the_record_is_shortened_loses_none_of_it(tmp_path, monkeypatch):
    path = record(tmp_path, 20, 40)
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Record(tmp_path, RUNS, 20)
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert steps(record(tmp_path, after=20)) == [(20, 0), (20, 1)]


def test_every_line_is_there_as_soon_as_it_is_recorded(tmp_path):
    with Record(tmp_path, RUNS, 0) as mine:
        mine.record("train", 20, 1.0, {"total": 1.0})
        assert steps(mine.path) == [(20, 0), (20, 1)]
        assert [len(events(board)) for board in boards(tmp_path)] == [3, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("full", ["metrics.jsonl", "events.out.tfevents.7.host.0"])
def test_a_full_disk_is_one_sentence_and_no_noise(full, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(module, "_cut", lambda *_: None)
    monkeypatch.setattr(module.time, "time", lambda: 7.5)
    monkeypatch.setattr(module.socket, "gethostname", lambda: "host")
    folder = tmp_path / "tensorboard" / "method=db__train_size=5__strength=0.1__seed=1"
    folder = tmp_path if full == "metrics.jsonl" else folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / full).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        record(tmp_path, 20)
    assert str(caught.value) == (
        f"The record of the training cannot be written to {tmp_path} (No space left on device): "
        "make room there, and start the same command again, which goes on from the last checkpoint."
    )
    gc.collect()  # a file that is still open would complain now
    assert capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"record .* cannot be written to .*file/group \(Not a dir"):
        Record(tmp_path / "file" / "group", RUNS, 0)


def boards(folder: Path) -> list[Path]:
    return sorted((folder / "tensorboard").iterdir())


def crc32c(data: bytes) -> int:
    """The masked CRC-32C of a record, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder: Path) -> list[Event]:
    """All events of a board, read as TensorBoard does."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length, check = struct.unpack_from("<QI", data, at)
            assert check == crc32c(data[at : at + 8])
            content = data[at + 12 : at + 12 + length]
            assert struct.unpack_from("<I", data, at + 12 + length)[0] == crc32c(content)
            found.append(Event.FromString(content))
            at += 16 + length
    return found


def test_tensorboard_gets_the_same_numbers(tmp_path):
    with Record(tmp_path, RUNS, 40) as mine:
        mine.record("train", 60, 2.5, {"total": np.array([0.25, np.nan]), "learning_rate": 0.5})
        mine.record("evaluation", 60, 2.5, {"test_accuracy": np.array([0.75, 0.5])})
    assert [board.name for board in boards(tmp_path)] == [
        f"method=db__train_size=5__strength=0.1__seed={seed}" for seed in (0, 1)
    ]
    read = []
    for board in boards(tmp_path):
        first, start, *rest = events(board)
        assert first.file_version == "brain.Event:2"
        # What a run that was killed wrote of these steps is hidden.
        assert (start.step, start.session_log.status) == (41, SessionLog.START)
        read.append([(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in rest])
    assert read == [
        [
            (60, {"train/total": 0.25, "train/learning_rate": 0.5}),
            (60, {"evaluation/test_accuracy": 0.75}),
        ],
        [(60, {"train/learning_rate": 0.5}), (60, {"evaluation/test_accuracy": 0.5})],
    ]


def test_tensorboard_gets_a_picture_at_the_step(tmp_path):
    record(tmp_path, 20)
    buffer = io.BytesIO()
    Image.new("RGB", (7, 5)).save(buffer, "png")
    module.picture(tmp_path, RUNS[1], 40, buffer.getvalue())
    first, second = boards(tmp_path)
    assert not [
        e for e in events(first) if e.summary.value and e.summary.value[0].HasField("image")
    ]
    *_, last = events(second)
    (value,) = last.summary.value
    assert (last.step, value.tag) == (40, "picture")
    assert (value.image.width, value.image.height) == (7, 5)
    assert value.image.encoded_image_string == buffer.getvalue()
    # What was recorded before is not hidden.
    assert {e.step for e in events(second) if e.HasField("session_log")} == {1, 41}


def test_a_second_start_adds_to_what_tensorboard_has(tmp_path):
    record(tmp_path, 20, 40)
    record(tmp_path, 40, after=20)
    written = [event.step for event in events(boards(tmp_path)[0]) if event.summary.value]
    assert sorted(written) == [20, 40, 40]


def test_a_name_that_every_file_system_takes():
    assert slug("hsfob-db1 at 0.1, 5 per class") == "hsfob-db1_at_0.1__5_per_class"
    assert slug("a/b\\c:d*e\0f\ng") == "a_b_c_d_e_f_g"
    assert slug("Zürich=1") == "Zürich=1"
