"""A config of Python and one of a work folder are read by the same flag, and changed alike."""

import json
import sys

import pytest
from absl import flags
from ml_collections import ConfigDict

from configs import digits
from experiments import ConfigError
from experiments.runs import config_flag
from experiments.runs.journal import Journal
from experiments.runs.plan import plan


@pytest.fixture
def stored(tmp_path):
    """The config.json of a work folder."""
    Journal(tmp_path, digits.get_config("smoke").to_dict())
    return tmp_path / "config.json"


def flag(monkeypatch, path, *changes):
    values, argv = flags.FlagValues(), ["program", f"--config={path}", *changes]
    monkeypatch.setattr(sys, "argv", argv)
    config_flag.define(values)
    values(argv)
    return values.config


def test_a_finished_runs_config_is_the_config_again(stored, monkeypatch):
    config = flag(monkeypatch, stored)
    assert config.to_dict() == digits.get_config("smoke").to_dict()
    assert plan(config.to_dict()) == plan(digits.get_config("smoke").to_dict())


def test_its_entries_are_changed_as_those_of_a_file_of_python(stored, monkeypatch):
    config = flag(monkeypatch, stored, "--config.seeds=7", "--config.train_sizes=(3,)")
    assert (config.seeds, config.train_sizes) == (7, (3,))
    with pytest.raises(flags.IllegalFlagValueError, match="epochs"):
        flag(monkeypatch, stored, "--config.epoch=7")
    assert isinstance(flag(monkeypatch, "configs/digits.py:smoke"), ConfigDict)


@pytest.mark.parametrize("way", ["--config.lr=0.1", "--noconfig.lr", "-config.lr=0.1"])
def test_an_entry_that_there_is_not_has_the_nearest_name(way, stored, monkeypatch):
    for path in (stored, "configs/digits.py:smoke"):
        said = r"^config\.lr is no entry of this config; the nearest are: learning_rate\.$"
        with pytest.raises(flags.IllegalFlagValueError, match=said):
            flag(monkeypatch, path, way)
    said = r"^config\.zzz is no entry of this config; there are: .*epochs"
    with pytest.raises(flags.IllegalFlagValueError, match=said):
        flag(monkeypatch, stored, "--config.zzz=1")


def test_entries_that_came_later_have_their_defaults(stored):
    older = {n: v for n, v in json.loads(stored.read_text()).items() if n != "imports"}
    stored.write_text(json.dumps(older))
    assert config_flag.read(str(stored)).imports == ()


def test_a_damaged_file_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json"):
        config_flag.read(str(tmp_path / "config.json"))
    with pytest.raises(OSError, match="No such file"):
        config_flag.read(str(tmp_path / "none.json"))
