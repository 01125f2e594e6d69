"""Both phases in the report, of folders made up by hand."""

import json

import pytest
from parsed_page import Page
from tiny_folders import accuracy, make, make_config, record

from experiments.report import files, page, phases, scoring
from experiments.runs import folder as run_folder
from experiments.runs import retraining

CONFIG = make_config(
    selection="retrain",
    train_sizes=[5, 0],
    validation_per_class=2,
    batch_size=10,
    optimizer="adam",
    score_epochs=2,
)
# Held-out images say what test images do not: 0.1 of 5 images a class, and 1.0 of all.
HELD_OUT = {(5, 0.1): 0.8, (5, 1.0): 0.7, (0, 0.1): 0.6, (0, 1.0): 0.65}


def made(path, keep=lambda run: True):
    """A folder of both phases, of whose runs of the second some have finished."""
    first = retraining.first(CONFIG)
    make(path, CONFIG)
    make(path / retraining.FOLDER, first)
    runs = run_folder.read(path / retraining.FOLDER).planned
    lines = [
        record(run, 0.5, validation_accuracy=HELD_OUT[run.train_size, run.strength]) for run in runs
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / retraining.FOLDER / "runs.jsonl").write_text(text)
    again = [run for run in run_folder.read(path).planned if keep(run)]
    done = [record(run, accuracy(run), validation_accuracy=None) for run in again]
    (path / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in done))
    return run_folder.read(path)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return made(tmp_path_factory.mktemp("both"))


def test_the_table_of_strengths_has_the_held_out_scores_and_marks_the_chosen(both):
    table = phases.table(CONFIG, both.first)
    assert table.columns == ["method", "5 per class", "all images"]
    assert table.lines == [
        ("db at 0.1", ["**80.00** (n=2)", "60.00 (n=2)"]),
        ("db at 1", ["70.00 (n=2)", "**65.00** (n=2)"]),
    ]
    assert table.title == (
        "Held-out accuracy (%) by strength, mean over n seeds, the chosen in bold."
    )


def test_only_what_was_trained_again_is_in_the_results(both):
    rows = {(row.method, row.train_size): row for row in both.chosen}
    assert [(both_.strength, both_.n) for both_ in rows.values()] == [
        (0.1, 2), (1.0, 2), (None, 2), (None, 2)
    ]  # fmt: skip
    assert rows["db", 5].mean == pytest.approx(85.5)
    assert rows["db", 0].mean == pytest.approx(92.5)


def test_the_words_count_both_phases(tmp_path):
    some = made(tmp_path / "a", keep=lambda run: run.method == "db")
    words = phases.words(CONFIG, some.first, len(some.records))
    assert "by the mean over the seeds on 2 training images per class that are held out" in words
    assert "8 of 8 of these runs finished, in the folder 'selection'" in words
    assert "with every seed: 4 of 8 runs finished" in words
    assert "none of these runs" in phases.words(CONFIG, None, 0)
    assert phases.words(make_config(), None, 3) == ""


def test_table_and_results_say_what_was_chosen_by_what(both, tmp_path):
    (tmp_path / retraining.FOLDER).symlink_to(both.name + "/" + retraining.FOLDER)
    paths = files.write(tmp_path, both.records, CONFIG, {})
    text, results = paths["table"].read_text(), json.loads(paths["results"].read_text())
    assert "Unfinished" not in text
    assert "and trained again with them" in text
    assert phases.table(CONFIG, both.first).markdown() in text
    assert results["phases"]["selection"] == {"finished": 8, "planned": 8}
    assert results["phases"]["retrain"] == {"finished": 8, "planned": 8}
    held_out = {(r["train_size"], r["strength"]): r for r in results["selection_strengths"]}
    assert {k: r["validation"] for k, r in held_out.items()} == pytest.approx(
        {key: 100 * value for key, value in HELD_OUT.items()}
    )
    assert [r["mean"] for r in results["rows"]] == pytest.approx([85.5, 92.5, 88.5, 88.5])
    assert (results["score_epochs"], results["protocol"]) == (2, scoring.protocol(CONFIG))
    assert scoring.protocol(CONFIG) in text
    differences = {(d["method"], d["train_size"]): d["mean"] for d in results["differences"]}
    assert differences == pytest.approx({("db", 5): -3.0, ("db", 0): 4.0})
    unfinished = files.write(tmp_path, both.records[:3], CONFIG, {})["table"].read_text()
    assert "Unfinished: 3 of 8 runs." in unfinished


def test_the_page_shows_both_phases(both, tmp_path):
    output = page.write([both.name], tmp_path / "page.html")
    text = Page(output.read_text())
    assert phases.words(CONFIG, both.first, 8) in " ".join(text.text.split())
    assert ["db at 0.1", "80.00 (n=2)", "60.00 (n=2)"] in text.tables[1]
    assert scoring.protocol(CONFIG) in text.text


def test_what_is_not_chosen_yet_is_unfinished(tmp_path):
    path = tmp_path / "a"
    made(path)
    lines = (path / retraining.FOLDER / "runs.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('"seed": 1' in line and '"train_size": 0' in line)]
    (path / retraining.FOLDER / "runs.jsonl").write_text("".join(kept))
    found = run_folder.read(path)
    unfinished = [(run.method, run.train_size, run.strength, run.seed) for run in found.unfinished]
    assert unfinished == [("db", 0, None, 0), ("db", 0, None, 1)]
    assert phases.table(CONFIG, found.first).lines[1][1] == ["70.00 (n=2)", "65.00 (n=1)"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Runs are scored at the end of the last epoch."),
        ({"score_epochs": 0}, "Runs are scored at the end of the last epoch."),
        ({"score_epochs": 10}, "Scores of a run are means over the ends of its last 10 epochs"),
        ({"score_epochs": 10, "perturbations": {"x": "fgsm"}}, "further is the last network."),
    ],
)
def test_the_protocol_in_words(changes, words):
    assert words in scoring.protocol(make_config(**changes))


def test_it_is_said_of_whom_the_teacher_is_scored(tmp_path):
    losses = {
        "db": "cross_entropy | l2(weight={strength})",
        "a": "cross_entropy | mean_teacher(weight=1.0)",
        "b": "isda(strength=0.5) | l2(weight=0.1) | mean_teacher(weight=1.0, decay=0.9)",
        "c": "cross_entropy | my_mean_teacher(weight=1.0)",
    }
    config = CONFIG | {"selection": "validation", "losses": losses, "evaluate_teacher": True}
    found = run_folder.read(make(tmp_path / "a", config))
    sentence = "The teacher is scored, not the network, of: a, b."
    paths = files.write(tmp_path / "a", found.records, config, {})
    results = json.loads(paths["results"].read_text())
    assert results["teacher_scored"] == ["a", "b"]
    assert results["protocol"].endswith(f" {sentence}")
    assert sentence in paths["table"].read_text().partition("\n\n")[0]
    shown = Page(page.write([tmp_path / "a"], tmp_path / "page.html").read_text()).text
    assert sentence in " ".join(shown.split())
    assert "teacher" not in scoring.protocol(config | {"evaluate_teacher": False})
