"""Work folders read back, whole and damaged."""

import json

import pytest
from tiny_folders import WHITE, make, make_config, make_robust, white

from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.runs import about
from experiments.runs import folder as run_folder
from experiments.runs.about import About


def test_only_runs_of_the_config_count(tmp_path):
    folder = make(tmp_path / "a")
    text = (folder / "runs.jsonl").read_text()
    other = text.replace("weight=1.0", "weight=2.0").replace("0.9", "0.1")
    (folder / "runs.jsonl").write_text(text + other.splitlines()[2] + "\n")
    row = run_folder.read(folder).chosen[0]
    assert (row.n, row.mean) == (2, pytest.approx(92.5))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", None, r"holds no config\.json"),
        ("config.json", "{", "damaged or no comparison's"),
        ("config.json", json.dumps(make_config(seeds="2")), r"\(see seeds\)"),
        ("config.json", json.dumps(make_config(train_sizes=["x"])), r"\(see train_sizes\)"),
        (
            "config.json",
            json.dumps(make_config(losses={"x": 3})),
            r"losses\.x must be an exp.*, not 3",
        ),
        ("config.json", json.dumps(make_config(losses={"": None})), r"losses\. must .*, not None"),
        (
            "config.json",
            json.dumps(make_config(losses={"x": "a"}, strengths={"x": [[]]})),
            r"strengths\.x must be a list of numbers, not \[\[\]\]",
        ),
        ("config.json", json.dumps(make_config(selection="luck")), r"\(see selection\)"),
        ("runs.jsonl", "{}\n", r"line 1 of .*runs\.jsonl is damaged"),
        ("runs.jsonl", "\x00\x00\n", r"line 1 of .*runs\.jsonl is damaged"),
        ("training/g/metrics.jsonl", '{"step": 1}\n{', r"line 1 of .*metrics\.jsonl is damaged"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path, file, text, words):
    path = make(tmp_path / "a") / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        list(run_folder.read(tmp_path / "a").metrics())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": ["db"]},
        {"seed": "0"},
        {"strength": "1"},
        {"test_accuracy": "high"},
        {"class_accuracy": 3},
        {"class_accuracy": ["x"]},
        {"test_class_accuracy": [0.5, {}]},
        {"validation_other": "x"},
        {"train_loss": "x"},
    ],
)
def test_a_damaged_record_is_one_sentence(tmp_path, changed):
    folder = make(tmp_path / "a")
    lines = (folder / "runs.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | changed)
    (folder / "runs.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="line 2 of"):
        run_folder.read(folder)


def test_scores_of_runs_that_are_not_the_configs_do_not_count(tmp_path):
    folder = make_robust(tmp_path / "a", {"white <i>": WHITE}, white)
    config = json.loads((folder / "config.json").read_text()) | {"seeds": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert {line["seed"] for line in run_folder.read(folder).robustness} == {0}


@pytest.mark.parametrize(
    "changes",
    [
        {"text": None},
        {"loss": 3},
        {"seed": "0"},
        {"accuracy": [0.5]},
        {"accuracy": 0.5},
        {"levels": None},
        {"ece": ["a", 0.1]},
    ],
)
def test_a_damaged_line_about_perturbations_is_named(tmp_path, changes):
    folder = make_robust(tmp_path / "a", {"white <i>": WHITE}, lambda run: white(run) | changes)
    with pytest.raises(ConfigError, match=r"line 1 of .*robustness\.jsonl is damaged: delete that"):
        run_folder.read(folder)


OUTSIDE = {"x": "outside(weight={strength}) | cross_entropy"}


def test_a_loss_from_outside_is_known_by_what_was_recorded(tmp_path):
    config = make_config(losses=OUTSIDE, strengths={"x": [0.1, 1.0]})
    folder = make(tmp_path / "a", config)
    planned = run_folder.read(folder).planned
    assert planned[0].loss == "outside(weight=0.1) | cross_entropy"
    lines = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    for line in lines:
        line["loss"] = f"Outside({line['strength']})"
    (folder / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run_folder.read(folder)
    assert [run.loss for run in found.planned[::2]] == ["Outside(0.1)", "Outside(1.0)"]
    assert (len(found.records), found.unfinished) == (4, [])


def test_the_main_score_is_the_one_that_the_folder_names(tmp_path):
    folder = make(tmp_path / "a", test_miou=0.5, validation_miou=0.4)
    spec = Spec({}, 3, ("a", "b", "c"), "validation")
    about.write(folder, About("module:NAME", "miou", spec))
    found = run_folder.read(folder)
    assert (found.about.score, found.about.spec.scored) == ("miou", "validation")
    assert [row.mean for row in found.rows] == [50.0] * 3
    assert not found.diverged
    about.write(folder, About("module:NAME", "auc", spec))
    assert len(run_folder.read(folder).diverged) == 6


def test_records_of_other_versions_are_read(tmp_path):
    folder = make(tmp_path / "a", test_confusion=[[1, 2], [3, None]], test_new=None)
    text = (folder / "runs.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        del line["test_nll"], line["test_ece"]
    (folder / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = run_folder.read(folder)
    assert (len(found.records), found.diverged) == (6, [])
