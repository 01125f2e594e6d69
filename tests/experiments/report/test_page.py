"""The HTML page on folders made up by hand: its numbers, figures, escaping and errors.

With it section.py, side_by_side.py and by_class.py.
"""

import itertools
import json
import re
import statistics
import subprocess
import sys

import pytest
from parsed_page import Page
from tiny_folders import (
    HALF,
    WHITE,
    add_metrics,
    fog,
    half,
    line,
    make,
    make_config,
    make_robust,
    planned,
    white,
)

from experiments import ConfigError
from experiments.data.spec import Spec
from experiments.report import page as report
from experiments.runs import about
from experiments.runs.about import About

HOSTILE = {
    "<script>alert(1)</script>": "cross_entropy",
    "\"><img src=x onerror='a'> & &amp;": "cross_entropy",
    "$x_1$ **bold** | a_b^c": "cross_entropy",
    r"${\frac$ \$": "cross_entropy",
    "_hidden": "cross_entropy",
    "日本語 ü {{ 7 * 7 }}": "cross_entropy",
}


def page_of(tmp_path, *folders):
    path = report.write(folders, tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    return Page(path.read_text(encoding="utf-8"))


def test_results_stand_beside_the_published_numbers(tmp_path):
    page = page_of(tmp_path, make(tmp_path / "a"))
    header, size, db, baseline = page.tables[0]
    assert header == [
        *("Method", "Strength", "n", "Mean", "Deviation", "Minus baseline", "95 % interval"),
        *("Published", "Difference", "Remarks"),
    ]
    assert size == ["5 images per class"]
    std = f"{statistics.stdev([92.0, 93.0]):.2f}"
    assert db == ["db", "1", "2", "92.50", std, "+4.00", "-", "90.00 ± 0.50", "+2.50", ""]
    assert baseline == ["baseline", "", "2", "88.50", std, "-", "-", "-", "-", ""]
    assert "Published (n=10): A paper" in page.text
    assert ("strong", {}) in page.tags
    assert "Unfinished" not in page.text
    assert "diverged:" not in page.text


def test_differences_have_their_intervals_a_figure_and_words(tmp_path):
    config = make_config(seeds=3)
    folder = make(tmp_path / "a", config)
    lines = [json.loads(text) for text in (folder / "runs.jsonl").read_text().splitlines()]
    for entry in lines:
        entry["test_accuracy"] += 0.001 * entry["seed"] * (entry["method"] == "db")
    (folder / "runs.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    page = page_of(tmp_path, folder)
    half = 4.302652729911275 * 0.1 / 3**0.5  # of 4.0, 4.1 and 4.2 points
    assert page.tables[0][2][5:7] == ["+4.10", f"[{4.1 - half:+.2f}, {4.1 + half:+.2f}] *"]
    assert "Of each training size in bold the best and all that cannot be told from it" in page.text
    assert "Test accuracy minus that of baseline, in percentage points: mean" in page.text
    (alt,) = (i["alt"] for i in page.all("img") if "minus that" in i["alt"])
    assert alt.startswith("Accuracy minus that of baseline. Bars are 95 % intervals")
    assert {"db", "5 images per class"} <= set(page.images()["Accuracy minus that of baseline"])


def test_without_a_baseline_the_page_says_so_and_has_no_such_columns(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: run.method == "db")
    page = page_of(tmp_path, folder)
    assert "There are no differences to baseline: it and another method must" in page.text
    assert page.tables[0][0][5] == "Published"
    assert {"scope": "rowgroup", "colspan": "8"} in page.all("th")


def test_nothing_published_no_such_column(tmp_path):
    config = make_config(published_for=["mnist", "small_cnn"])
    page = page_of(tmp_path, make(tmp_path / "a", config))
    assert "Published" not in page.text


def test_unfinished_runs_are_named(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: run.method == "db" and run.seed == 0)
    page = page_of(tmp_path, folder)
    assert "2 of 6 runs have ended" in page.text
    assert "db, 5 per class, strength 0.1: seed 1" in page.text
    assert "baseline, 5 per class: seeds 0, 1" in page.text
    assert page.tables[0][3] == ["baseline", "", "0", "-", "-", "-", "-", "no run has finished"]


def test_diverged_runs_are_named(tmp_path):
    folder = make(tmp_path / "a")
    lines = (folder / "runs.jsonl").read_text().splitlines()
    lines = [text.replace('"train_loss": 0.1', '"train_loss": null') for text in lines[:4]]
    (folder / "runs.jsonl").write_text("\n".join(lines) + "\n")
    page = page_of(tmp_path, folder)
    assert "db, 5 per class, strength 1: seeds 0, 1" in page.text
    assert page.tables[0][2][3:] == ["-", "-", "90.00 ± 0.50", "-", "2 of 2 diverged"]


def test_a_comparison_that_has_just_begun(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: False)
    (folder / "runs.jsonl").unlink()
    page = page_of(tmp_path, folder)
    assert "0 of 6 runs have ended" in page.text
    assert not page.all("img")


def test_a_folder_whose_own_modules_are_gone_is_shown_without_them(tmp_path, capsys):
    losses = {"ours": "cross_entropy | gone:decay(weight=0.1)"}
    own = {"imports": ["gone"], "model": "gone:Net", "losses": losses, "strengths": {}}
    make(tmp_path / "own", make_config(**own, published={}), keep=lambda run: False)
    page = report.write([tmp_path / "own"], tmp_path / "page.html").read_text()
    assert "gone:decay(weight=0.1)" in page
    assert "config.imports names 'gone', which cannot be found" in capsys.readouterr().err


def test_an_older_folder_is_read_and_left_as_it_was(tmp_path):
    folder = make(tmp_path / "a")
    with (folder / "runs.jsonl").open("a") as file:
        file.write('{"method": "db", "lo')  # being written when the process died
    before = {path: path.read_bytes() for path in folder.iterdir()}
    page = page_of(tmp_path, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not {"Learning curves", "Accuracy by class"} & set(page.headings)
    assert page.tables[0][2][3] == "92.50"


def test_accuracy_by_class(tmp_path):
    config = make_config(seeds=1)
    folder = make(tmp_path / "a", config)
    lines = [json.loads(text) for text in (folder / "runs.jsonl").read_text().splitlines()]
    for entry in lines:
        entry["class_accuracy"] = {0.1: [0.0, 0.0, 0.0], 1.0: [0.9, 0.95, None]}.get(
            entry["strength"], [0.86, 0.951, None]
        )
    (folder / "runs.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    page = page_of(tmp_path, folder)
    table = next(table for table in page.tables if table[0][0] == "Class")
    assert table == [
        ["Class", "db", "baseline", "Mean"],
        ["0", "90.0 (+2.0)", "86.0 (-2.0)", "88.0"],
        ["1", "95.0 (+0.0)", "95.1 (+0.0)", "95.0"],
        ["2", "-", "-", "-"],
    ]
    shades = [cell["class"] for cell in page.all("td") if "class" in cell]
    assert shades.count("above2") == shades.count("below2") == 1


def test_of_pixels_intersections_over_unions_take_the_place_of_accuracies(tmp_path):
    folder = make(tmp_path / "a", make_config(seeds=1), test_iou=[0.25, None])
    page = page_of(tmp_path, folder)
    table = next(table for table in page.tables if table[0][0] == "Class")
    assert [line[-1] for line in table] == ["Mean", "25.0", "-"]
    assert "Intersection over union by class" in page.headings


def test_class_accuracies_are_means_over_the_seeds(tmp_path):
    folder = make(tmp_path / "a")
    lines = [json.loads(text) for text in (folder / "runs.jsonl").read_text().splitlines()]
    for entry in lines:
        entry["class_accuracy"] = [0.2 + 0.1 * entry["seed"], 0.5]
    (folder / "runs.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    page = page_of(tmp_path, folder)
    table = next(table for table in page.tables if table[0][0] == "Class")
    assert table[1][1:] == ["25.0 (+0.0)", "25.0 (+0.0)", "25.0"]


def test_folders_side_by_side_and_what_differs(tmp_path):
    losses = {"db": "cross_entropy | l2(weight={strength})"}
    other = make_config(learning_rate=0.1, losses=losses, train_sizes=[5, 10], mean=[0.5])
    page = page_of(tmp_path, make(tmp_path / "a"), make(tmp_path / "b", other))
    beside, differences = page.tables[:2]
    assert beside[0] == ["Method", "Images per class", str(tmp_path / "a"), str(tmp_path / "b")]
    std = f"{statistics.stdev([92.0, 93.0]):.2f}"
    assert beside[1] == ["db", "5", *[f"92.50 ± {std} (n=2), at 1"] * 2]
    assert beside[2][2:] == [f"88.50 ± {std} (n=2)", "-"]
    assert beside[3][:3] == ["db", "10", "-"]
    assert sorted(differences[1:]) == [
        ["learning_rate", "0.01", "0.1"],
        ["losses.baseline", '"cross_entropy"', "-"],
        ["mean", "-", "[0.5]"],
        ["train_sizes", "[5]", "[5, 10]"],
    ]


def test_equal_configs_are_said_to_be_equal(tmp_path):
    page = page_of(tmp_path, make(tmp_path / "a"), make(tmp_path / "b"))
    assert "All folders have the same config." in page.text


def test_environment_and_command(tmp_path):
    folder = make(tmp_path / "a", versions="jax 1")
    environment = {"device": "4 x abacus", "versions": "jax 2", "command": "python -m x --y='1 2'"}
    (folder / "results.json").write_text(json.dumps({"environment": environment}))
    page = page_of(tmp_path, folder)
    assert ["device", "4 x abacus"] in page.tables[-1]
    assert ["versions", "jax 1"] in page.tables[-1]  # what the runs were trained with
    assert "python -m x --y='1 2'" in page.text
    assert f"experiments.report {folder} --output={tmp_path / 'page.html'}" in page.text
    (folder / "results.json").unlink()
    assert f"--config=CONFIG --workdir={folder}" in page_of(tmp_path, folder).text


def test_the_page_has_a_figure_for_each_quantity(tmp_path):
    folder = make(tmp_path / "a")
    runs = planned(folder, strength=1.0)
    lines = [
        line(run, step, total=1.0, l2=0.1, learning_rate=0.1) for run in runs for step in (10, 20)
    ]
    add_metrics(folder, lines, end='{"kind": "train", "st')
    add_metrics(
        folder, [line(runs[0], 20, "evaluation", validation_accuracy=0.915)], group="another"
    )
    page = page_of(tmp_path, folder)
    titles = ["validation accuracy", "training loss", "l2", "learning rate"]
    assert list(page.images())[3:] == titles
    assert page.headings[-5:-1] == titles
    alt = next(i["alt"] for i in page.all("img") if i["alt"].startswith("validation"))
    assert "db, 5 per class: 91.5" in alt


def test_text_from_configs_stays_text(tmp_path):
    config = make_config(
        losses=HOSTILE,
        strengths={},
        published={name: {"5": [80.0, 1.0]} for name in HOSTILE},
        published_source="<b>Source</b> & 'co'",
    )
    folder = make(tmp_path / "<i>&", config, class_accuracy=[0.5, 0.6])
    hostile = "<img src=x onerror=alert(2)> $"
    lines = [line(run, 10, **{"total": 1.0, hostile: 1.0}) for run in planned(folder, seed=0)]
    add_metrics(folder, lines)
    page = page_of(tmp_path, folder)
    assert [row[0] for row in page.tables[0][2:]] == list(HOSTILE)
    assert "Published (n=10): <b>Source</b> & 'co'" in page.text
    assert str(folder) in page.headings
    assert not {"script", "b", "i"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    images = page.images()
    assert hostile in page.headings
    legend = [text.strip() for text in images["Accuracy against training size"]]
    assert len(set(HOSTILE) - set(legend)) == 1  # the one that is too long for a legend
    assert "\"><img src=x oner…'a'> & &amp;" in legend


def test_the_page_needs_nothing_outside_itself(tmp_path):
    folder = make(tmp_path / "a", class_accuracy=[0.5])
    page = page_of(tmp_path, folder)
    addresses = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")
    ]
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in addresses)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"@import|url\(|https?:", re.sub(r'src="[^"]*"', "", text))


def test_tables_and_figures_can_be_read_out(tmp_path):
    page = page_of(tmp_path, make(tmp_path / "a"), make(tmp_path / "b", make_config(seeds=1)))
    assert all(cell.get("scope") in ("row", "col", "rowgroup") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("html") == [{"lang": "en"}]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {link["href"].removeprefix("#") for link in page.all("a")}
    assert links == set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_the_same_folders_give_the_same_bytes(tmp_path):
    folder = make(tmp_path / "a")
    first = report.write([folder], tmp_path / "page.html").read_bytes()
    assert report.write([folder], tmp_path / "page.html").read_bytes() == first


def test_no_folders():
    with pytest.raises(ConfigError, match="no folder to report on"):
        report.write([], "page.html")


def test_a_damaged_folder_leaves_no_page(tmp_path):
    folder = make(tmp_path / "a")
    (folder / "runs.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="line 1 of"):
        report.write([folder], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = make(tmp_path / "a", keep=lambda run: False)
    with pytest.raises(ConfigError, match=r"--output=.*page\.html cannot be written"):
        report.write([folder], tmp_path / "missing" / "page.html")
    (tmp_path / "page.html").write_text("old")

    def full(path, data):
        path.write_text("<!DOCT")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ConfigError, match=r"No space left"):
        report.write([folder], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "page.html"]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *arguments], capture_output=True, text=True
    )


def test_the_command(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: False)
    done = command(str(folder), f"--output={tmp_path / 'page.html'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Written to {tmp_path / 'page.html'}\n"
    failed = command(str(folder), str(tmp_path / "none"), f"--output={tmp_path / 'other.html'}")
    assert failed.returncode == 2
    assert failed.stderr == (
        f"{tmp_path / 'none'} is no folder: name the --workdir of a comparison.\n"
    )


def test_what_perturbations_leave_stands_on_the_page(tmp_path):
    texts = {"white <i>": WHITE, "fog": "corruption(name='fog', severity=(1, 2))", "PGD": HALF}
    folder = make_robust(tmp_path / "a", texts, white, fog, half, end='{"method": "d')
    page = page_of(tmp_path, folder)
    assert "Robustness and calibration" in page.headings
    first, attack, corruptions, calibration = page.tables[2:6]
    std = f"{statistics.stdev([80.0, 82.0]):.2f}"
    assert first == [
        ["method", "sigma 0.1", "paper", "sigma 0.3"],
        ["db", f"81.00 ± {std} (n=2)", "83.0 (-2.0)", "50.00 ± 0.00"],
        ["baseline", f"81.00 ± {std} (n=2)", "-", "30.00 ± 0.00"],
    ]
    assert [row[2].partition(" ")[0] for row in attack[1:]] == ["0.00", "40.00"]
    assert corruptions[0] == ["corruption", "db", "baseline"]
    assert corruptions[1:] == [["fog", "80.00", "80.00"], ["mean", "80.00", "80.00"]]
    assert calibration[1] == ["db", "0.300 ± 0.000 (n=2)", "2.000 ± 0.000 (n=2)"]
    assert "Accuracy (%) under white <i>" in page.text
    assert page.text.count("**") == 0
    assert "leaves 40.0 % to baseline: the attack does not see" in page.text
    figures = page.images()
    assert {"white <i>", "PGD", "sigma"} <= set(
        figures["Accuracy under perturbations, 5 per class"]
    )
    assert {"fog", "mean"} <= set(figures["Accuracy under corruptions, 5 per class"])


def test_an_untested_folder_has_no_such_heading(tmp_path):
    folder = make_robust(tmp_path / "a", {"white <i>": WHITE})
    for page in (page_of(tmp_path, folder), page_of(tmp_path, make(tmp_path / "b"))):
        assert "Robustness and calibration" not in page.headings


# Other scores.


def test_other_scores_have_columns_and_classes_their_names(tmp_path):
    config = make_config(columns=["nll", "gap"])
    folder = make(tmp_path / "a", config, test_class_accuracy=[0.5] * 3)
    about.write(folder, About(spec=Spec({}, 3, ("<b>cat", "dog"), "validation")))
    page = page_of(tmp_path, folder)
    header, _, db, _ = page.tables[0]
    assert header[-3:] == ["negative log-likelihood (nats)", "gap", "Remarks"]
    assert db[-3:] == ["0.300 ± 0.000", "-", ""]
    assert {"scope": "rowgroup", "colspan": "12"} in page.all("th")
    classes = next(table for table in page.tables if table[0][0] == "Class")
    assert [line[0] for line in classes[1:]] == ["<b>cat", "dog", "2"]
    assert "Validation accuracy (%): mean and sample standard deviation" in page.text
    assert "Test accuracy" not in page.text


def test_folders_with_other_main_scores_stand_beside_each_other(tmp_path):
    first = make(tmp_path / "a")
    second = make(tmp_path / "b", test_miou=0.5, validation_miou=0.4)
    about.write(second, About("x:Y", "miou", Spec({}, 3, (), "test")))
    page = page_of(tmp_path, first, second)
    assert page.tables[0][1][3] == "50.00 ± 0.00 (n=2), at 0.1"
    heading = "Test accuracy (%), Test mean intersection over union (%), mean ± sample"
    assert heading in page.text
    titles = {"Mean intersection over union against strength", "Accuracy against strength"}
    assert titles <= set(page.headings)
