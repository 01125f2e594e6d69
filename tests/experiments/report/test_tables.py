"""Selection, table, plots and files on runs made up by hand."""

import json
import math
import statistics

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.report import plots, tables
from experiments.runs.selection import select, summarize

ENVIRONMENT = {"platform": "cpu", "jax": "0.10.2"}


def run(method="db", size=50, strength=0.1, seed=0, test=0.9, validation=0.9, **others):
    return {
        "method": method,
        "loss": f"cross_entropy | {method}({strength})",
        "train_size": size,
        "strength": strength,
        "seed": seed,
        "test_accuracy": test,
        "validation_accuracy": validation,
        "train_loss": 0.1,
        "test_nll": 0.3,
        "test_ece": 0.02,
        "steps": 7,
        **others,
    }


def runs(tests, **fields):
    return [run(seed=seed, test=test, **fields) for seed, test in enumerate(tests)]


def make_config(**changes):
    config = ConfigDict(sort_keys=False)
    config.dataset = "mnist"
    config.model = "small_cnn"
    losses = {"db": "cross_entropy | l2(weight={strength})", "baseline": "cross_entropy"}
    config.losses = ConfigDict(losses, sort_keys=False)
    config.strengths = {"db": (0.1, 1.0)}
    config.train_sizes = (50, 100)
    config.seeds = 2
    config.epochs = 3
    config.batch_size = 128
    config.optimizer = "adam"
    config.learning_rate = 0.001
    config.validation_per_class = 5
    config.selection = "validation"
    config.runs_at_once = 16
    paper = {"db": {"50": (92.273, 0.49)}, "baseline": {"50": (90.195, 0.45)}}
    config.published = ConfigDict(paper, sort_keys=False)
    config.published_source = "Thumwanit, thesis, Table 2"
    config.published_seeds = 10
    config.published_for = ("mnist", "small_cnn")
    config.update(changes)
    return config


def comparison():
    """All runs of `make_config`: the strength 1.0 is better for db, on both kinds of images."""
    return [
        *(r for size in (50, 100) for r in runs([0.90, 0.91], size=size, strength=0.1)),
        *(
            r
            for size in (50, 100)
            for r in runs([0.93, 0.94], size=size, strength=1.0, validation=0.92)
        ),
        *(
            r
            for size in (50, 100)
            for r in runs([0.89, 0.90], method="baseline", size=size, strength=None)
        ),
    ]


def table_of(records, config):
    rows, chosen = summarize(records), select(records, config.selection)
    return tables.markdown(rows, chosen, config, ENVIRONMENT)


def cells_of(text):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return lines[0], {line[0]: line[1:] for line in lines[2:]}


# Selection.


def test_mean_and_sample_deviation_in_percent():
    (row,) = select(runs([0.90, 0.91, 0.95]), "test")
    assert (row.n, row.diverged) == (3, 0)
    assert row.mean == pytest.approx(92.0)
    assert row.std == pytest.approx(statistics.stdev([90.0, 91.0, 95.0]))
    assert row.validation == pytest.approx(90.0)
    assert row.loss == "cross_entropy | db(0.1)"


def test_one_run_has_no_deviation():
    (row,) = select(runs([0.9]), "test")
    assert row.n == 1
    assert row.std is None


def test_the_two_rules_can_disagree():
    records = runs([0.95, 0.95], strength=0.1, validation=0.80)
    records += runs([0.90, 0.92], strength=1.0, validation=0.85)
    (by_test,) = select(records, "test")
    (by_validation,) = select(records, "validation")
    assert by_test.strength == 0.1
    assert by_validation.strength == 1.0
    assert by_validation.mean == pytest.approx(91.0)  # The test accuracy is what is reported.


@pytest.mark.parametrize("selection", ["test", "validation"])
def test_ties_go_to_the_smaller_strength_in_any_order(selection):
    records = [
        *runs([0.91, 0.93, 0.97], strength=3.0),
        *runs([0.97, 0.91, 0.93], strength=0.01),
        *runs([0.93, 0.97, 0.91], strength=1.0),
    ]
    for ordered in (records, records[::-1]):
        (row,) = select(ordered, selection)
        assert row.strength == 0.01


@pytest.mark.parametrize("key", ["train_loss", "test_nll", "test_accuracy", "validation_accuracy"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("selection", ["test", "validation"])
def test_a_strength_with_a_diverged_run_does_not_win(key, value, selection):
    good = runs([0.90, 0.90], strength=0.1)
    bad = runs([0.99, 0.99], strength=1.0, validation=0.99)
    bad[1][key] = value
    (row,) = select(good + bad, selection)
    assert (row.strength, row.mean) == (0.1, pytest.approx(90.0))


@pytest.mark.parametrize("key", ["train_loss", "test_nll", "test_ece", "test_accuracy"])
def test_a_null_in_the_journal_is_a_diverged_run(key):
    (row,) = select(runs([0.9], **{key: None}), "test")
    assert (row.diverged, row.mean) == (1, None)


def test_where_everything_diverged_there_is_no_mean():
    bad = runs([0.1, 0.1], strength=0.1, train_loss=math.nan)
    half = runs([0.1, 0.9], strength=1.0)
    half[0]["train_loss"] = math.nan
    (row,) = select(bad + half, "validation")
    assert (row.strength, row.n, row.diverged) == (1.0, 2, 1)
    assert row.mean is row.std is row.validation is None


def test_a_strength_with_fewer_seeds_than_another_does_not_win_by_luck():
    records = runs([0.99], strength=1.0) + runs([0.90, 0.90], strength=0.1)
    (row,) = select(records, "test")
    assert (row.strength, row.n) == (0.1, 2)


def test_cells_may_differ_in_their_seeds():
    records = runs([0.9, 0.9], size=50) + runs([0.9], size=100)
    assert [(row.train_size, row.n) for row in select(records, "test")] == [(50, 2), (100, 1)]


def test_one_row_per_method_and_size_in_order():
    rows = select(comparison()[::-1], "test")
    assert [(r.method, r.train_size, r.strength) for r in rows] == [
        ("baseline", 50, None),
        ("baseline", 100, None),
        ("db", 50, 1.0),
        ("db", 100, 1.0),
    ]


def test_selection_errors():
    with pytest.raises(ValueError, match=r"'train'.*'validation', 'test'"):
        select(runs([0.9]), "train")
    with pytest.raises(ValueError, match="run of db has none"):
        select(runs([0.9], validation=None), "validation")
    assert select(runs([0.9], validation=None), "test")[0].validation is None


# The table.


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
    paths = tables.write(tmp_path, records, config, ENVIRONMENT)
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
    assert tables.published(config) == {}
    paths = tables.write(tmp_path, comparison(), config, ENVIRONMENT)
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


def test_every_line_of_the_table_has_as_many_cells():
    text = table_of(comparison(), make_config())
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_bar_in_a_methods_name_does_not_end_its_cell():
    config = make_config()
    config.losses = ConfigDict({"a|b": "cross_entropy"})
    config.strengths = ConfigDict()
    assert "| a\\|b | -" in table_of([], config)


# The plots.


def size_figure(config, records):
    chosen = select(records, config.selection)
    return plots.accuracy_by_size(chosen, list(config.losses), tables.published(config))


def strength_figure(config, records):
    chosen = select(records, config.selection)
    return plots.accuracy_by_strength(summarize(records), chosen, list(config.losses))


def bars_of(axes):
    """{label: (x, y)} of the error bars."""
    return {
        c.get_label(): c.lines[0].get_data() for c in axes.containers if len(c.lines[0].get_xdata())
    }


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_accuracy_against_size():
    figure = size_figure(make_config(), comparison())
    accuracy, gain = figure.axes
    assert accuracy.get_xscale() == "log"
    assert accuracy.get_xlabel() == "training images per class"
    assert accuracy.get_ylabel() == "test accuracy (%)"
    assert gain.get_ylabel() == "gain over baseline (percentage points)"
    np.testing.assert_allclose(bars_of(accuracy)["db"][1], [93.5, 93.5])
    np.testing.assert_allclose(bars_of(gain)["db"][1], [4.0, 4.0])
    assert legend_of(figure) == ["db", "baseline", "published"]


def test_shifted_points_stay_near_their_size_and_apart():
    accuracy, gain = size_figure(make_config(), comparison()).axes
    for axes, most in ((accuracy, 0.1), (gain, 0.25)):
        x = np.concatenate([container.lines[0].get_xdata() for container in axes.containers])
        x = x.astype(float)  # The legend's empty entry makes them objects.
        first = x[x < 75]
        assert first.size == 4  # Two methods, ours and the paper's.
        assert len(set(first)) == first.size
        assert np.abs(np.log(first / 50)).max() < most


def test_the_papers_numbers_are_hollow():
    accuracy, gain = size_figure(make_config(), comparison()).axes
    hollow = [c.lines[0] for c in accuracy.containers if c.lines[0].get_mfc() == "white"]
    assert {round(float(y), 3) for line in hollow for y in line.get_ydata()} == {92.273, 90.195}
    theirs = [c.lines[0] for c in gain.containers if c.lines[0].get_mfc() == "white"]
    assert sorted(round(float(y), 3) for line in theirs for y in line.get_ydata()) == [0.0, 2.078]


def test_without_a_baseline_there_is_no_gain():
    records = [r for r in comparison() if r["method"] == "db"]
    assert len(size_figure(make_config(), records).axes) == 1


def test_accuracy_against_strength():
    figure = strength_figure(make_config(), comparison())
    assert [axes.get_title() for axes in figure.axes] == [
        "50 images per class",
        "100 images per class",
    ]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(lines["db"].get_xdata(), [0.1, 1.0])
    np.testing.assert_allclose(lines["db"].get_ydata(), [90.5, 93.5])
    assert lines["db"].get_markevery() == [False, True]
    assert set(lines["baseline"].get_ydata()) == {89.5}
    assert legend_of(figure) == ["db", "baseline"]


def test_a_collapsed_strength_does_not_squeeze_the_panel():
    records = comparison() + runs([0.1, 0.1], strength=3.0, validation=0.1)
    low, high = strength_figure(make_config(), records).axes[0].get_ylim()
    assert low > 80
    assert 94.2 < high < 96


@pytest.mark.parametrize("method", ["db", "baseline"])
@pytest.mark.parametrize("size", [50, 100])
def test_a_panel_whose_runs_all_diverged_is_still_drawn(method, size, tmp_path):
    records = comparison()
    for record in records:
        if (record["method"], record["train_size"]) == (method, size):
            record["train_loss"] = None
    assert len(tables.write(tmp_path, records, make_config(), ENVIRONMENT)) == 4


def test_nothing_but_diverged_runs_is_still_drawn(tmp_path):
    records = [record | {"train_loss": math.nan} for record in comparison()]
    assert len(tables.write(tmp_path, records, make_config(), ENVIRONMENT)) == 4


def test_names_are_no_formulas_and_all_stand_in_the_legend():
    names = ["$x_1$", "$\\frac", "_hidden", "a_b^c", "日本"]
    records = [r for name in names for r in runs([0.9], method=name, strength=None)]
    chosen = select(records, "test")
    for figure in (
        plots.accuracy_by_size(chosen, names, {}),
        plots.accuracy_by_strength(chosen, chosen, names),
    ):
        assert plots.render(figure, "png").startswith(b"\x89PNG")
        svg = plots.render(figure, "svg").decode()
        assert all(f">{name}<" in svg for name in names if name != "_hidden")
        assert "> _hidden<" in svg


def test_labels_are_short_and_printable():
    assert plots.label("a\nb\x00\ud800") == "a\ufffdb\ufffd\ufffd"
    assert plots.label("x" * 31 + "-tail") == "x" * 17 + "…" + "x" * 7 + "-tail"
    assert plots.label("x" * 30) == "x" * 30


def test_no_two_of_many_methods_look_the_same():
    names = [f"m{i}" for i in range(40)]
    look = plots.styles(names, [])
    assert len({(style["color"], style["marker"]) for style in look.values()}) == 40


def test_of_several_methods_without_a_strength_the_first_is_black():
    records = [r for name in "ab" for r in runs([0.9], method=name, strength=None)]
    look = plots.styles(["a", "b", "db"], summarize(records))
    assert look["a"]["color"] == "black" != look["b"]["color"]
    assert [style["linestyle"] for style in look.values()] == ["--", "--", "-"]


@pytest.mark.parametrize("sizes", [(50,), (50, 100), (5, 10, 20), (50, 100, 200, 1000)])
def test_one_panel_per_size(sizes):
    records = [r for size in sizes for r in runs([0.9, 0.8], size=size)]
    assert len(strength_figure(make_config(), records).axes) == len(sizes)


# The files.


def test_write_leaves_four_whole_files(tmp_path):
    paths = tables.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
    assert set(paths) == {"results", "table", "accuracy_by_size", "accuracy_by_strength"}
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    assert paths["table"].read_text(encoding="utf-8") == table_of(comparison(), make_config())
    for name in ("accuracy_by_size", "accuracy_by_strength"):
        assert paths[name].read_bytes().startswith(b"\x89PNG")
        assert paths[name].stat().st_size > 10_000


def test_results_json(tmp_path):
    records = comparison() + runs([0.1], strength=3.0, test_nll=math.nan)
    results = json.loads(
        tables.write(tmp_path, records, make_config(), ENVIRONMENT)["results"].read_text()
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
    diverged = [row for row in results["strengths"] if row["diverged"]]
    assert [(row["strength"], row["mean"]) for row in diverged] == [(3.0, None)]


def test_a_config_that_went_through_json_gives_the_same_files(tmp_path):
    config = make_config()
    plain = json.loads(config.to_json_best_effort())
    first = tables.write(tmp_path, comparison(), config, ENVIRONMENT)
    texts = [first[name].read_bytes() for name in ("results", "table")]
    second = tables.write(tmp_path, comparison(), plain, ENVIRONMENT)
    assert [second[name].read_bytes() for name in ("results", "table")] == texts


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    paths = tables.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
    before = paths["table"].read_bytes()

    def killed(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        tables.write(tmp_path, comparison()[:3], make_config(), ENVIRONMENT)
    assert paths["table"].read_bytes() == before


def test_a_plot_that_fails_leaves_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "accuracy_by_size", None)
    with pytest.raises(TypeError):
        tables.write(tmp_path, comparison(), make_config(), ENVIRONMENT)
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
    paths = tables.write(tmp_path, records, make_config(), {"versions": "jax 3"})
    assert footer in paths["table"].read_text(encoding="utf-8")
    assert json.loads(paths["results"].read_text())["environment"]["versions"] in footer


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no run has finished"):
        tables.write(tmp_path, [], make_config(), ENVIRONMENT)
