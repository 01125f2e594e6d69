"""What a comparison leaves behind, each file whole or not at all."""

import json
import math
import statistics

import pytest
from tiny_compared import ENVIRONMENT, comparison, make_config, runs, table_of

from experiments.data.spec import Spec
from experiments.report import files, main_plots
from experiments.runs import about
from experiments.runs.about import About


def test_write_leaves_five_whole_files(tmp_path):
    paths = files.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
    figures = {"accuracy_by_size", "accuracy_by_strength", "differences"}
    assert set(paths) == {"results", "table", *figures}
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    text = table_of(comparison(), make_config())
    assert paths["table"].read_text(encoding="utf-8") == text
    for name in figures:
        assert paths[name].read_bytes().startswith(b"\x89PNG")
        assert paths[name].stat().st_size > 10_000


def test_results_json(tmp_path):
    records = comparison() + runs([0.1], strength=3.0, test_nll=math.nan)
    results = json.loads(
        files.write(tmp_path, records, make_config(), ENVIRONMENT)["results"].read_text()
    )
    assert results["selection"] == "validation"
    assert results["environment"] == ENVIRONMENT
    assert results["published_source"] == "Thumwanit, thesis, Table 2"
    assert results["published"][0] == {
        "method": "db",
        "train_size": 50,
        "mean": 92.273,
        "std": 0.49,
    }
    db = results["rows"][0]
    assert (db["method"], db["train_size"], db["strength"], db["n"]) == ("db", 50, 1.0, 2)
    assert db["mean"] == pytest.approx(93.5)
    assert len(results["rows"]) == 4
    assert [row["bold"] for row in results["rows"]] == [True, True, False, False]
    assert results["baseline"] == "baseline"
    first, _ = results["differences"]
    assert first == {
        **{"method": "db", "train_size": 50, "n": 2, "paired": True, "mean": pytest.approx(4.0)},
        **dict.fromkeys(("low", "high", "p", "holm")),
        "bootstrap": False,
    }
    diverged = [row for row in results["strengths"] if row["diverged"]]
    assert [(row["strength"], row["mean"]) for row in diverged] == [(3.0, None)]


def test_a_config_that_went_through_json_gives_the_same_files(tmp_path):
    config = make_config()
    plain = json.loads(config.to_json_best_effort())
    first = files.write(tmp_path, comparison(), config, ENVIRONMENT)
    texts = [first[name].read_bytes() for name in ("results", "table")]
    second = files.write(tmp_path, comparison(), plain, ENVIRONMENT)
    assert [second[name].read_bytes() for name in ("results", "table")] == texts


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    paths = files.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
    before = paths["table"].read_bytes()

    def killed(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path, comparison()[:3], make_config(), ENVIRONMENT)
    assert paths["table"].read_bytes() == before


def test_a_plot_that_fails_leaves_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(main_plots, "accuracy_by_size", None)
    with pytest.raises(TypeError):
        files.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "table.md"}


@pytest.mark.parametrize(
    ("versions", "footer"),
    [
        ((), "versions: jax 3"),
        (("jax 1",), "versions: jax 1\n"),
        (("jax 1", "jax 2"), "versions: jax 1 and jax 2\n"),
        ((None, "jax 2"), "versions: not recorded and jax 2\n"),
    ],
)
def test_the_versions_are_those_that_the_runs_were_trained_with(tmp_path, versions, footer):
    records = comparison()
    for i, version in enumerate(versions):
        for record in records[i :: len(versions)]:
            record.update({"versions": version} if version else {})
    paths = files.write(tmp_path, records, make_config(), {"versions": "jax 3"})
    assert footer in paths["table"].read_text(encoding="utf-8")
    assert json.loads(paths["results"].read_text())["environment"]["versions"] in footer


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no run has finished"):
        files.write(tmp_path, [], make_config(), ENVIRONMENT)


def test_results_json_has_every_score_of_every_row(tmp_path):
    about.write(tmp_path, About("x:Y", "miou", Spec({}, 2, ("a", "b"), "validation")))
    records = comparison()
    for record in records:
        seed = record["seed"]
        record |= {"test_miou": 0.5 + 0.1 * seed, "validation_miou": 0.5, "test_gap": None}
        record |= {"test_confusion": [[1, seed], [2, 3]], "test_class_accuracy": [0.5, None]}
    results = json.loads(
        files.write(tmp_path, records, make_config(), ENVIRONMENT)["results"].read_text()
    )
    assert (results["score"], results["scored"]) == ("miou", "validation")
    row = results["rows"][0]
    assert (row["strength"], row["mean"]) == (0.1, pytest.approx(55.0))
    std = statistics.stdev([90.0, 91.0])
    assert row["scores"]["accuracy"] == pytest.approx([90.5, std])
    assert row["scores"]["nll"] == [0.3, 0.0]
    assert row["scores"]["gap"] == [None, None]
    assert row["lists"] == {"confusion": [[1, 0.5], [2, 3]], "class_accuracy": [50.0, None]}
