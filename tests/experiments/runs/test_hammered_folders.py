"""Damaged work folders: read as they were written, or refused in one sentence; nothing is lost."""

import json

import pytest
import tiny_folders
from hammered import assert_one_sentence, damaged, values
from hypothesis import given
from hypothesis import strategies as st

from experiments import ConfigError
from experiments.runs import about, folder, lines
from experiments.runs.journal import Journal
from experiments.runs.records import is_finished

FILES = ("config.json", "runs.jsonl", "robustness.jsonl", "about.json", "results.json")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder, and what is in its files."""
    path = tiny_folders.make_robust(
        tmp_path_factory.mktemp("written") / "run",
        {"white": tiny_folders.WHITE},
        tiny_folders.white,
    )
    (path / "results.json").write_text(json.dumps({"environment": {"device": "cpu"}}))
    about.write(path, about.About())
    return path, {name: (path / name).read_bytes() for name in FILES}


@st.composite
def damages(draw, written):
    """Which file is damaged, and what is then in it."""
    name = draw(st.sampled_from(FILES))
    text = written[name]
    if draw(st.booleans()):
        return name, draw(damaged(text))
    whole = text.splitlines() if name.endswith("jsonl") else [text]
    record = json.loads(whole[0])
    record[draw(st.sampled_from(sorted(record) or ["x"]))] = draw(values)
    return name, b"\n".join([json.dumps(record).encode(), *whole[1:]]) + b"\n"


def put_back(path, files):
    for name, text in files.items():
        (path / name).write_bytes(text)


@given(data=st.data())
def test_a_damaged_folder_is_read_or_refused_and_stays_as_it_is(written, data):
    path, files = written
    name, text = data.draw(damages(files))
    put_back(path, files | {name: text})
    try:
        found = folder.read(path)
        assert len(found.records) <= len(found.planned)
        list(found.metrics())
    except ConfigError as error:
        assert_one_sentence(error)
    assert (path / name).read_bytes() == text


@given(data=st.data())
def test_a_damaged_journal_goes_on_or_is_refused_and_loses_no_whole_line(written, data):
    path, files = written
    config = json.loads(files["config.json"])
    name, text = data.draw(damages(files))
    put_back(path, files | {name: text})
    try:
        journal = Journal(path, config)
    except ConfigError as error:
        assert_one_sentence(error)
        return
    finally:
        left = (path / name).read_bytes()
    if name.endswith(".jsonl"):
        assert left == text[: text.rfind(b"\n") + 1]
        assert sum(1 for _ in lines.read(path / "runs.jsonl", is_finished)) == len(
            journal.runs.records
        )


def test_what_is_hammered_is_right_before(written):
    path, files = written
    put_back(path, files)
    assert len(folder.read(path).records) == 6
    assert folder.read(path).robustness
