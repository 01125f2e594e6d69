"""The table of entries, what follows from it, and configs of older versions.

Covers `entry_kinds.py` and `data_entries.py` too.
"""

import json
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from configs import common
from experiments import is_number
from experiments.runs import entries, entry_values
from experiments.runs.entries import ENTRIES
from experiments.runs.entry_kinds import KINDS, Entry
from experiments.runs.selection import SELECTIONS
from experiments.training import parallel, sweep

BY_NAME = {entry.name: entry for entry in ENTRIES}
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def old(**changes):
    """A config.json of the time before mixtures and streams without labels."""
    config = json.loads(common.base().to_json_best_effort())
    later = ("metrics", "columns", "mixture", "unlabeled_batch_size", "unlabeled_includes_labeled")
    config = {name: value for name, value in config.items() if name not in later}
    return config | {"image_size": 224, "growing": []} | changes


def now(**changes):
    return common.base().to_dict() | changes


@every_entry
def test_every_entry_says_what_it_is(entry):
    assert entry.help.endswith(".")
    assert "\n" not in entry.help
    assert len(entry.help) > 10


def test_no_name_stands_twice():
    assert len(BY_NAME) == len(ENTRIES)


@every_entry
def test_every_default_is_in_base(entry):
    value = common.base()[entry.name]
    assert (value.to_dict() if isinstance(value, ConfigDict) else value) == entry.default
    assert type(value) is (ConfigDict if entry.default == {} else type(entry.default))


def test_base_has_the_order_of_the_table_and_nothing_else():
    assert list(common.base()) == [entry.name for entry in ENTRIES]


def test_two_bases_and_two_sections_share_nothing():
    config = common.base()
    config.losses.x = "cross_entropy"
    sections = [name for name, value in config.items() if isinstance(value, ConfigDict)]
    assert len(sections) > 5
    assert [name for name in sections if config[name].to_dict()] == ["losses"]
    assert common.base().losses.to_dict() == {}
    assert BY_NAME["losses"].default == {}


def test_known_values_are_those_of_the_modules_that_use_them():
    assert BY_NAME["selection"].known == tuple(SELECTIONS)
    assert BY_NAME["strategy"].known == ("", *sweep.STRATEGIES)
    assert BY_NAME["parallelism"].known == ("", *parallel.KINDS)


def test_what_a_finished_run_depends_on():
    free = "imports data_dir workers train_sizes seeds selection metrics columns evaluate_epochs"
    free += " checkpoint_steps keep_checkpoints runs_at_once strategy parallelism fsdp distributed"
    free += " losses strengths perturbations published published_robustness published_source"
    free += " published_seeds published_for distributed_timeout"
    assert set(BY_NAME) - set(entries.SHARED) == set(free.split())
    assert set(entries.OWN) == {"distributed", "distributed_timeout", "data_dir", "workers"}


def test_what_a_report_shows_and_needs():
    shown = ("dataset", "model", "epochs", "batch_size", "optimizer", "learning_rate")
    assert shown == entries.SHOWN
    needed = {"dataset", "model", "losses", "strengths", "train_sizes", "seeds", "selection"}
    assert {entry.name for entry in entries.NEEDED} == needed


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("text", ["", "x"], [3, None, ("x",)]),
        ("whole", [0, -3], [1.0, True, "3", None]),
        ("number", [0, 0.5], [False, "0.5", None]),
        ("switch", [True, False], [0, 1, "True", None]),
        ("tuple", [(), [1]], ["x", 3, {}]),
        ("section", [{}, {"x": 1}], [(), "x", None]),
        ("curves", [{}, (), ["x.y"]], ["x", 3, None]),
    ],
)
def test_what_fits_each_kind(kind, right, wrong):
    entry = Entry("x", 0, "A test.", kind=kind)
    assert all(entry.fits(value) for value in right)
    assert not any(entry.fits(value) for value in wrong)


def test_every_kind_is_in_use():
    assert {entry.kind for entry in ENTRIES} == set(KINDS)


def test_numbers_are_finite_in_float32_and_no_truth_values():
    assert all(map(is_number, (0, -1.5, 3.4e38)))
    assert not any(map(is_number, (3.5e38, float("inf"), float("nan"), True, "1", None)))


def test_a_finished_folder_of_an_older_version_is_of_the_same_runs():
    assert entries.changed(old(), now()) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"mixture": {"x": 0.1}}, "mixture"),
        ({"unlabeled_batch_size": 8}, "unlabeled_batch_size"),
        ({"unlabeled_includes_labeled": True}, "unlabeled_includes_labeled"),
        ({"image_size": 224}, "image_size"),
        ({"growing": {"isda": {"strength": "linear"}}}, "growing"),
        ({"mean": (0.5,)}, "mean"),
    ],
)
def test_what_an_older_version_had_not_counts_as_changed(changes, name):
    assert entries.changed(old(), now(**changes)) == [name]


def test_what_is_trained_again_is_as_if_nothing_had_been_held_out():
    again = now(selection="retrain", validation_per_class=5)
    assert entries.changed(now(selection="test"), again) == []
    assert entries.changed(now(validation_per_class=5), again) == ["validation_per_class"]
    assert entries.changed(again, now(selection="retrain", validation_per_class=7)) == []


def test_the_last_epoch_alone_has_two_names():
    assert entries.changed(now(score_epochs=0), now(score_epochs=1)) == []
    assert entries.changed(now(score_epochs=1), now(score_epochs=2)) == ["score_epochs"]
    assert entries.changed(old(), now(score_epochs=2)) == ["score_epochs"]


def test_entries_that_no_finished_run_depends_on_may_change():
    changes = {"metrics": ("accuracy",), "columns": ("nll",), "seeds": 9, "data_dir": "x"}
    assert entries.changed(old(), now(**changes)) == []


def test_changes_are_named_in_the_order_of_the_table():
    changed = entries.changed(now(learning_rate=0.5, epochs=7, dtype="x"), now())
    assert changed == ["dtype", "epochs", "learning_rate"]


def test_streams_of_an_older_version_were_resized():
    assert entries.changed(old(data="stream"), now(data="stream")) == []
    resized = old(data="stream", image_size=64)
    assert entries.changed(resized, now(data="stream")) == ["image_size"]


@pytest.mark.parametrize(
    "written",
    [
        ["isda.strength"],
        ("isda.strength",),
        {"isda.strength": "linear"},
        {"isda": {"strength": "linear"}},
        ConfigDict({"isda": {"strength": "linear"}}),
    ],
)
def test_growing_may_be_written_in_several_ways(written):
    assert entry_values.growing(written) == {"isda.strength": "linear"}
    given = written.to_dict() if isinstance(written, ConfigDict) else written
    assert entries.changed(old(growing=["isda.strength"]), now(growing=given)) == []


def test_another_curve_is_another_run():
    curve = {"isda": {"strength": "sigmoid(epochs=80)"}}
    assert entry_values.growing(curve) == {"isda.strength": "sigmoid(epochs=80)"}
    assert entries.changed(old(growing=["isda.strength"]), now(growing=curve)) == ["growing"]


def test_a_damaged_entry_is_a_change():
    assert entries.changed(now(growing=3, image_size=None), now()) == ["growing"]


def test_a_stored_config_is_completed_once_and_for_all():
    whole = entries.complete(old(seeds=4))
    assert whole["seeds"] == 4
    assert whole["image_size"] == 0
    assert set(whole) == set(BY_NAME)
    assert entries.complete(whole) == whole
    assert entries.complete(now(image_size=32))["image_size"] == 32


def test_the_size_of_images():
    assert entry_values.image_size(now()) == 0
    assert entry_values.image_size(now(image_size=32)) == 32
    assert entry_values.image_size(now(data="stream")) == 224
    assert entry_values.image_size(now(data="stream", image_size=32)) == 32


def test_a_config_can_be_read_without_jax():
    program = "import sys, configs.common; print({'jax', 'numpy', 'regjax'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
