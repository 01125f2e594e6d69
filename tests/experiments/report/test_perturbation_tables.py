"""Tables about perturbed images, on scores made up by hand; with perturbation_scores.py."""

import json
import statistics

import pytest
from tiny_tested import (
    FOG,
    HALF,
    RUNS,
    SALT,
    SNOW,
    TESTED,
    WHITE,
    found_of,
    half,
    make_config,
    run,
    scored,
)

from experiments.report import files, plots
from experiments.report.perturbation_scores import corruption_means
from experiments.report.perturbation_tables import calibration, robust, tables
from experiments.runs.selection import select


def tables_of(config, records=TESTED, runs=RUNS):
    found, _ = found_of(config, records, runs)
    return list(tables(found, list(config["losses"]), config["train_sizes"]))


def test_mean_deviation_and_calibration_over_the_seeds():
    found, _ = found_of(make_config())
    row = found.tested[(0, "NFM", "white noise")]
    assert (row.method, row.train_size, row.name, row.n) == ("NFM", 0, "white noise", 2)
    assert row.mean == pytest.approx((82.0, 55.0))
    assert row.std == pytest.approx((statistics.stdev([80, 84]), statistics.stdev([60, 50])))
    assert row.ece == pytest.approx((20.0, 20.0))
    assert len(found.tested) == 8


def test_one_network_has_no_deviation_and_two_tests_of_one_count_once():
    once = [r for r in TESTED if r["seed"] == 0]
    assert found_of(make_config(), once)[0].tested[(0, "NFM", "white noise")].std is None
    twice, _ = found_of(make_config(), TESTED + TESTED)
    assert twice.tested == found_of(make_config())[0].tested


def test_a_perturbation_whose_module_is_gone_is_shown_as_it_was_recorded():
    own = "mine:darkness(share=(0.2, 0.5))"
    config = make_config(perturbations={"dark": own, "untested": "mine:other(share=0.1)"})
    found, _ = found_of(config, [scored("NFM", s, own, (70.0, 30.0)) for s in (0, 1)])
    assert list(found.perturbations) == ["dark"]
    assert found.perturbations["dark"].headings == ("level 0", "level 1")
    assert found.tested[(0, "NFM", "dark")].mean == pytest.approx((70.0, 30.0))


def test_only_the_chosen_strength_and_the_same_expression_count():
    runs = [run("NFM", s, strength=0.1) for s in (0, 1)]
    runs += [run("NFM", s, strength=1.0, test_accuracy=0.99) for s in (0, 1)]
    records = [scored("NFM", s, WHITE, (10.0, 10.0), strength=0.1) for s in (0, 1)]
    records += [scored("NFM", s, WHITE, (70.0, 30.0), strength=1.0) for s in (0, 1)]
    records += [scored("NFM", s, "white_noise(sigma=0.1)", (99.0,), strength=1.0) for s in (0, 1)]
    found, _ = found_of(make_config(), records, runs)
    assert [row.mean for row in found.tested.values()] == [pytest.approx((70.0, 30.0))]


def test_answers_that_are_no_numbers_have_no_calibration():
    records = [r | {"ece": [0.1, None], "nll": [1.0, None]} for r in TESTED[:2]]
    row = found_of(make_config(), records)[0].tested[(0, "NFM", "white noise")]
    assert row.ece == (pytest.approx(10.0), None)
    json.dumps(row.ece, allow_nan=False)


def test_every_level_is_a_column_with_the_papers_number_and_the_difference_beside():
    white, *_ = tables_of(make_config())
    assert white.title == f"Accuracy (%) under white noise (`{WHITE}`):"
    assert white.columns == ["method", "sigma 0.1", "paper", "sigma 0.3"]
    deviations = [statistics.stdev(pair) for pair in ((80, 84), (60, 50), (70, 72), (64, 60))]
    a, b, c, d = (f"{std:.2f}" for std in deviations)
    assert white.lines == [
        ("NFM", [f"**82.00 ± {a}** (n=2)", "83.0 (-1.0)", f"**55.00 ± {b}**"]),
        ("plain", [f"**71.00 ± {c}** (n=2)", "-", f"**62.00 ± {d}**"]),
    ]


def test_what_is_told_from_the_best_over_the_seeds_is_not_bold():
    records = [
        *(scored("NFM", s, WHITE, (80.0 + s, 60.0 + s)) for s in (0, 1, 2)),
        *(scored("plain", s, WHITE, (70.1 + 1.01 * s, 59.0 + 4 * s)) for s in (0, 1, 2)),
        *(scored("NFM", s, FOG, (80.0 + s, 60.0)) for s in (0, 1, 2)),
        *(scored("plain", s, FOG, (70.1 + 1.01 * s, 60.0)) for s in (0, 1, 2)),
        *(scored("NFM", s, SNOW, (50.0,)) for s in (0, 1, 2)),
        *(scored("plain", s, SNOW, (53.0 + 3 * s,)) for s in (0, 1, 2)),
    ]
    white, _, corruptions = tables_of(make_config(), records)
    bold = [[cell.startswith("**") for cell in cells] for _, cells in white.lines]
    assert [[cells[0], cells[-1]] for cells in bold] == [[True, True], [False, True]]
    bold = {name: [cell.startswith("**") for cell in cells] for name, cells in corruptions.lines}
    assert bold == {"fog": [True, False], "snow": [True, True], "mean": [True, True]}


def test_what_was_tested_on_some_images_only_says_so_and_ties_are_both_bold():
    _, salt, _ = tables_of(make_config())
    assert salt.title == f"Accuracy (%) under a|b (`{SALT}`), 100 test images:"
    std = f"{statistics.stdev([40, 50]):.2f}"
    assert salt.lines[0] == ("NFM", [f"**45.00 ± {std}** (n=2)"])
    assert salt.lines[1] == ("plain", ["**45.00 ± 0.00** (n=2)"])


def test_corruptions_are_one_table_of_means_over_severities_and_of_all():
    config = make_config()
    corruptions = tables_of(config)[-1]
    assert corruptions.columns == ["corruption", "NFM", "plain"]
    fog = (statistics.mean([80, 40, 90, 50]), statistics.mean([70, 30, 70, 50]))
    snow = (statistics.mean([60, 30, 30, 60, 50, 10]), statistics.mean([90, 60, 30]))
    means = [statistics.mean(pair) for pair in zip(fog, snow, strict=True)]
    assert corruptions.lines == [
        ("fog", [f"**{fog[0]:.2f}**", f"{fog[1]:.2f}"]),
        ("snow", [f"{snow[0]:.2f}", f"**{snow[1]:.2f}**"]),
        ("mean", [f"{means[0]:.2f}", f"**{means[1]:.2f}**"]),
    ]
    assert "mean over severities and 2 seeds:" in corruptions.title
    fewer = [r for r in TESTED if (r["method"], r["seed"]) != ("plain", 1)]
    assert "severities and 1 to 2 seeds:" in tables_of(config, fewer)[-1].title
    found, _ = found_of(config)
    assert corruption_means(found, ["plain"], 0)["mean"] == [pytest.approx(means[1])]


def test_what_has_not_been_tested_is_a_dash_and_counts_in_no_mean():
    records = [r for r in TESTED if (r["method"], r["text"]) not in {("plain", SNOW)}]
    records = [r for r in records if (r["method"], r["text"]) != ("plain", WHITE)]
    white, _, corruptions = tables_of(make_config(), records)
    assert white.lines[1] == ("plain", ["-", "-", "-"])
    assert white.lines[0][1][2].startswith("**")
    assert [cells[1] for _, cells in corruptions.lines] == ["55.00", "-", "-"]
    assert corruptions.lines[1][1][0].startswith("**")


def test_published_numbers_stand_beside_their_own_networks_only():
    for change in ({"dataset": "digits"}, {"model": "small"}, {"published": {}}):
        white, *_ = tables_of(make_config(**change))
        assert "paper" not in white.columns
    runs = [r | {"train_size": size} for r in RUNS for size in (0, 50)]
    records = [r | {"train_size": size} for r in TESTED for size in (0, 50)]
    all_images, *_ = sized = tables_of(make_config(train_sizes=[0, 50]), records, runs)
    assert all_images.title.endswith(", all images:")
    assert "paper" in all_images.columns
    assert sized[3].title == f"Accuracy (%) under white noise (`{WHITE}`), 50 per class:"
    assert sized[3].columns == ["method", "sigma 0.1", "sigma 0.3"]
    assert sized[3].lines[0][1][0] == all_images.lines[0][1][0]


def test_in_markdown_every_line_has_as_many_cells():
    config = make_config(losses={"NFM": "cross_entropy", "a|b": "cross_entropy"})
    for table in tables_of(config):
        title, empty, *lines = table.markdown().splitlines()
        assert (title, empty) == (table.title, "")
        unescaped = [line.replace(r"\|", "").count("|") for line in lines]
        assert unescaped == [len(table.columns) + 1] * len(lines)
        assert set(lines[1]) == set("| -")


def test_calibration_of_the_clean_images():
    _, chosen = found_of(make_config())
    table = calibration(chosen, 0)
    assert table.title == "Calibration on clean test images, all images:"
    nll, ece = statistics.stdev([0.3, 0.4]), statistics.stdev([2.0, 3.0])
    cells = [f"0.350 ± {nll:.3f} (n=2)", f"2.500 ± {ece:.3f} (n=2)"]
    assert table.lines == [("NFM", cells), ("plain", cells)]
    (single,) = calibration(select(RUNS[:1], "test"), 0).lines
    assert single == ("NFM", ["0.300 (n=1)", "2.000 (n=1)"])
    assert calibration(chosen, 50).lines == []


def test_a_diverged_method_has_no_calibration():
    runs = [*RUNS[:3], RUNS[3] | {"test_ece": None, "diverged": "step 1: total"}]
    assert [name for name, _ in calibration(select(runs, "test"), 0).lines] == ["NFM"]


def test_write_has_the_tables_the_figures_and_the_numbers(tmp_path):
    config = make_config(make_config()["perturbations"] | {"PGD": HALF})
    paths = files.write(tmp_path, RUNS, config, {"device": "x"}, TESTED + half(0.0, 50.0))
    assert {"robustness", "corruptions"} < set(paths)
    for name in ("robustness", "corruptions"):
        assert paths[name].read_bytes().startswith(b"\x89PNG")
    text = paths["table"].read_text()
    parts = [
        *tables_of(config, TESTED + half(0.0, 50.0)),
        calibration(select(RUNS, "test"), 0),
    ]
    for table in parts:
        assert table.markdown() in text
    assert "leaves 50.0 % to plain: the attack does not see" in text
    results = json.loads(paths["results"].read_text())["robustness"]
    assert len(results) == 10
    assert results[0]["mean"] == pytest.approx([82.0, 55.0])


def test_where_nothing_was_tested_nothing_is_said_of_it(tmp_path):
    paths = files.write(tmp_path, RUNS, make_config(), {}, [])
    assert set(paths) == {"results", "table", "accuracy_by_size", "differences"}
    assert "under" not in paths["table"].read_text()
    config = make_config()
    for name in ("perturbations", "published_robustness"):
        del config[name]  # of an older version
    files.write(tmp_path, RUNS, config, {}, TESTED)
    assert "under" not in paths["table"].read_text()


def test_figures_of_several_sizes_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "render", lambda *_: b"")
    runs = [r | {"train_size": size} for r in RUNS for size in (0, 50)]
    records = TESTED + [r | {"train_size": 50} for r in TESTED if r["text"] == WHITE]
    paths = files.write(tmp_path, runs, make_config(train_sizes=[0, 50]), {}, records)
    assert {name for name in paths if name[0] in "rc"} == {
        *("results", "robustness_0", "robustness_50", "corruptions_0"),
    }


def test_the_scored_split_is_named():
    found, chosen = found_of(make_config())
    assert calibration(chosen, 0, "validation").title.startswith("Calibration on clean validation")
    _, salt, _ = tables(found, ["NFM"], [0], "validation")
    assert ", 100 validation images" in salt.title


def test_where_the_likelihood_was_not_recorded_there_is_no_calibration():
    names = ("test_nll", "test_ece")
    runs = [{n: v for n, v in r.items() if n not in names} for r in RUNS]
    found, chosen = found_of(make_config(), runs=runs)
    every, _ = robust(found, chosen, runs, make_config())
    assert not [table for table in every if table.title.startswith("Calibration")]
    first, second = calibration(select([RUNS[0], *runs[2:]], "test"), 0).lines
    assert first[1] == ["0.300 (n=1)", "2.000 (n=1)"]
    assert second[1] == ["-", "-"]
