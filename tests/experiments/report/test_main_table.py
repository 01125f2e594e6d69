"""The table of a comparison on runs made up by hand.

Covers `scoring.py` too.
"""

import json
import math

import pytest
from ml_collections import ConfigDict
from tiny_compared import ENVIRONMENT, comparison, make_config, run, runs, table_of

from experiments.data.spec import Spec
from experiments.report import files, scoring
from experiments.report.published import published
from experiments.runs.about import About


def cells_of(text):
    """The first table's."""
    text = "\n\n".join(text.split("\n\n")[:2])
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return lines[0], {line[0]: line[1:] for line in lines[2:]}


def test_table_has_ours_beside_the_papers_with_the_signed_difference():
    text = table_of(comparison(), make_config())
    header, cells = cells_of(text)
    assert header == ["method", "50 per class", "paper", "100 per class"]
    assert list(cells) == ["db", "baseline"]
    assert cells["db"] == [
        "**93.50 ± 0.71** (n=2), at 1",
        "92.27 ± 0.49 (+1.23)",
        "**93.50 ± 0.71** (n=2), at 1",
    ]
    assert cells["baseline"][:2] == ["89.50 ± 0.71 (n=2)", "90.19 ± 0.45 (-0.69)"]
    assert "Paper (n=10): Thumwanit, thesis, Table 2. In parentheses" in text
    assert "platform: cpu; jax: 0.10.2" in text
    assert "Unfinished" not in text


@pytest.mark.parametrize(
    ("selection", "words"), [("test", "optimistic"), ("validation", "held-out")]
)
def test_caption_says_the_rule_and_the_training(selection, words):
    caption = table_of(comparison(), make_config(selection=selection)).splitlines()[0]
    assert words in caption
    for word in ("mnist", "small_cnn", "3 epochs", "batches of 128", "adam at 0.001", "sample"):
        assert word in caption


def test_where_no_strength_is_chosen_nothing_is_said_of_strengths(tmp_path):
    config = make_config(selection="test")
    del config.losses["db"]
    records = runs([0.9, 0.8], method="baseline", strength=None)
    paths = files.write(tmp_path, records, config, ENVIRONMENT)
    assert set(paths) == {"results", "table", "accuracy_by_size"}
    assert "strength" not in paths["table"].read_text(encoding="utf-8")


def test_nothing_published_no_paper_column():
    config = make_config()
    config.published = ConfigDict()
    header, _ = cells_of(table_of(comparison(), config))
    assert header == ["method", "50 per class", "100 per class"]


@pytest.mark.parametrize("change", [{"dataset": "digits"}, {"model": "thesis_resnet"}])
def test_the_papers_numbers_stand_beside_their_own_data_and_model_only(change, tmp_path):
    config = make_config(**change)
    header, _ = cells_of(table_of(comparison(), config))
    assert header == ["method", "50 per class", "100 per class"]
    assert "aper" not in table_of(comparison(), config)
    assert published(config) == {}
    paths = files.write(tmp_path, comparison(), config, ENVIRONMENT)
    results = json.loads(paths["results"].read_text())
    assert (results["published"], results["published_source"]) == ([], "")


def test_unfinished_counts_the_plan_not_the_strengths_alone():
    config = make_config()
    config.losses, config.strengths = ConfigDict({"x": "cross_entropy"}), ConfigDict({"x": ()})
    records = [run("x", size, None, seed) for size in (50, 100) for seed in (0, 1)]
    assert "Unfinished" not in table_of(records, config)
    assert "Unfinished: 3 of 4 runs." in table_of(records[:3], config)


def test_unfinished_and_diverged_cells_are_said():
    records = [r for r in comparison() if r["train_size"] == 50]
    records += runs([0.1], size=100, method="baseline", strength=None, train_loss=math.nan)
    text = table_of(records, make_config())
    _, cells = cells_of(text)
    assert cells["db"][2] == "-"
    assert cells["baseline"][2] == "diverged (1 of 1)"
    assert "Unfinished: 7 of 12 runs." in text


def test_every_line_of_a_table_has_as_many_cells():
    for text in table_of(comparison(), make_config()).split("\n\n")[1:4:2]:
        assert len({line.count("|") for line in text.splitlines()}) == 1


def test_a_bar_in_a_methods_name_does_not_end_its_cell():
    config = make_config()
    config.losses = ConfigDict({"a|b": "cross_entropy"})
    config.strengths = ConfigDict()
    assert "| a\\|b | -" in table_of([], config)


# Of a version before there were other scores than the accuracy.
TABLE = """\
Test accuracy (%) on mnist with small_cnn: mean ± sample standard deviation over n seeds, the best \
in bold. 3 epochs, batches of 128, adam at 0.001. Runs are scored at the end of the last epoch. \
"At": the strength, chosen for the best mean accuracy on the test images themselves, which is \
optimistic. Paper (n=10): Thumwanit, thesis, Table 2. In parentheses, ours minus the paper's.

| method | 50 per class | paper | 100 per class |
| --- | --- | --- | --- |
| db | **93.50 ± 0.71** (n=2), at 1 | 92.27 ± 0.49 (+1.23) | - |
| baseline | 89.50 ± 0.71 (n=2) | 90.19 ± 0.45 (-0.69) | diverged (1 of 2) |

Test accuracy minus that of baseline, in percentage points: mean of the differences at the same \
seeds (an interval takes two that differ).

| method | 50 per class | 100 per class |
| --- | --- | --- |
| db | +4.00 | - |

Unfinished: 8 of 12 runs.

device: cpu; versions: jax 1
"""


@pytest.mark.parametrize("others", [{}, {"columns": ()}, {"columns": ("accuracy",)}])
def test_with_one_score_the_table_is_what_it_always_was(tmp_path, others):
    records = [r for r in comparison() if (r["method"], r["train_size"]) != ("db", 100)][:-1]
    records += runs([0.1], size=100, method="baseline", strength=None, train_loss=None)
    config = make_config(selection="test", **others)
    environment = {"device": "cpu", "versions": "jax 1", "command": "python x"}
    paths = files.write(tmp_path, records, config, environment)
    assert paths["table"].read_text(encoding="utf-8") == TABLE


def test_every_score_of_columns_has_its_column_and_its_best():
    records = comparison()
    for record in records:
        record["test_nll"] = 0.2 if record["method"] == "db" else 0.1
    config = make_config(columns=("nll", "gap"), train_sizes=(50,))
    show = scoring.of(config, About())
    records = [record for record in records if record["train_size"] == 50]
    text = table_of(records, config, show)
    header, cells = cells_of(text)
    nll = "negative log-likelihood (nats)"
    names = ["accuracy (%)", "paper", nll, "gap"]
    assert header[1:] == [n if n == "paper" else f"50 per class: {n}" for n in names]
    first = ["**93.50 ± 0.71** (n=2), at 1", "92.27 ± 0.49 (+1.23)"]
    assert cells["db"] == [*first, "0.200 ± 0.000", "-"]
    assert cells["baseline"][2:] == ["**0.100 ± 0.000**", "-"]
    assert text.startswith(f"Test accuracy (%), {nll} and gap on mnist with small_cnn: mean")


def test_where_runs_diverged_the_other_columns_are_dashes():
    records = runs([0.1], size=50, method="baseline", strength=None, train_loss=None)
    config = make_config(columns=("ece", "accuracy"), train_sizes=(50,), published_for=())
    show = scoring.of(config, About())
    _, cells = cells_of(table_of(records, config, show, "test"))
    assert cells == {"db": ["-", "-"], "baseline": ["diverged (1 of 1)", "-"]}


def unbalanced_scoring(count, **changes):
    about = About(spec=Spec({}, 2, ("cat", "dog")))
    records = runs([0.9], test_balanced_accuracy=0.7, test_class_count=count)
    config = make_config(**changes)
    return scoring.of(config, about, records), records, config


def test_where_classes_are_unbalanced_the_table_has_what_that_takes():
    show, records, config = unbalanced_scoring([32, 8])
    text = table_of(records, config, show, "test")
    assert "50 per class: balanced accuracy (%)" in cells_of(text)[0]
    assert "Always saying the largest class (cat): 80.0 % accuracy." in text
    assert unbalanced_scoring([32, 8], columns=("accuracy", "nll"))[0].columns[-1] == "nll"


@pytest.mark.parametrize("count", [[3, 2], [5, 0], None])
def test_where_they_are_not_or_it_is_not_known_the_table_is_what_it_was(count):
    show, *_ = unbalanced_scoring(count)
    assert show.columns == ("accuracy",)
    assert show.majority == ""


def test_strengths_chosen_by_a_validation_split_are_said_to_be():
    config = make_config(selection="validation", validation_per_class=0)
    assert "on the validation images." in table_of(comparison(), config)
    config.strengths = ConfigDict({"db": (1.0,)})
    assert '"At": the strength. ' in table_of(comparison(), config)


def test_another_main_score_on_another_split():
    records = [r | {"test_miou": 0.5, "test_accuracy": None} for r in comparison()]
    spec = Spec({}, 2, ("a", "b"), "validation")
    config = make_config(selection="test")
    show = scoring.of(config, About("x:Y", "miou", spec))
    text = table_of(records, config, show)
    assert text.startswith("Validation mean intersection over union (%) on mnist")
    assert "the best mean intersection over union on the validation images themselves" in text
    assert cells_of(text)[1]["db"][:2] == [
        "**50.00 ± 0.00** (n=2), at 0.1",
        "92.27 ± 0.49 (-42.27)",
    ]
