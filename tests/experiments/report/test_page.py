"""The HTML page on folders made up by hand: its numbers, figures, escaping and errors."""

import base64
import html.parser
import itertools
import json
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments import ConfigError
from experiments.report import curves, plots
from experiments.report import page as report
from experiments.runs import folder as run_folder

HOSTILE = {
    "<script>alert(1)</script>": "cross_entropy",
    "\"><img src=x onerror='a'> & &amp;": "cross_entropy",
    "$x_1$ **bold** | a_b^c": "cross_entropy",
    r"${\frac$ \$": "cross_entropy",
    "_hidden": "cross_entropy",
    "日本語 ü {{ 7 * 7 }}": "cross_entropy",
}


def make_config(**changes):
    return {
        "dataset": "digits",
        "model": "small_cnn",
        "losses": {"db": "cross_entropy | l2(weight={strength})", "baseline": "cross_entropy"},
        "strengths": {"db": [0.1, 1.0]},
        "train_sizes": [5],
        "seeds": 2,
        "epochs": 3,
        "learning_rate": 0.01,
        "selection": "validation",
        "published": {"db": {"5": [90.0, 0.5]}},
        "published_for": ["digits", "small_cnn"],
        "published_source": "A paper",
        "published_seeds": 10,
        **changes,
    }


def record(run, test, **others):
    fields = {name: getattr(run, name) for name in ("method", "loss", "train_size", "strength")}
    scores = {"train_loss": 0.1, "test_nll": 0.3, "test_ece": 0.02, "validation_accuracy": test}
    return fields | {"seed": run.seed} | scores | {"test_accuracy": test} | others


def accuracy(run):
    """Strength 1.0 is the better one; seed 1 is a point better than seed 0."""
    return {0.1: 0.85, 1.0: 0.92, None: 0.88}[run.strength] + 0.01 * run.seed


def make(folder, config=None, keep=lambda run: True, **others):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or make_config()))
    runs = [run for run in run_folder.read(folder).planned if keep(run)]
    lines = [json.dumps(record(run, accuracy(run), **others)) + "\n" for run in runs]
    (folder / "runs.jsonl").write_text("".join(lines))
    return folder


def line(run, step, kind="train", **numbers):
    fields = {name: getattr(run, name) for name in ("method", "train_size", "strength", "seed")}
    return {"kind": kind, "step": step, "epoch": step / 10, **fields, **numbers}


def add_metrics(folder, lines, group="g0", end=""):
    path = folder / "training" / group / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


class Page(html.parser.HTMLParser):
    """Tables as lists of lines of cells, headings, texts, and every tag with its attributes."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.open, self.headings = [], [], [], []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] in ("h1", "h2", "h3", "h4"):
            self.headings[-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def images(self):
        """{what it shows: the text in it}."""
        prefix = "data:image/svg+xml;base64,"
        found = {}
        for image in self.all("img"):
            assert image["src"].startswith(prefix)
            svg = ElementTree.fromstring(base64.b64decode(image["src"].removeprefix(prefix)))
            assert not [e for e in svg.iter() if e.tag.endswith(("script", "foreignObject"))]
            texts = ["".join(e.itertext()) for e in svg.iter("{http://www.w3.org/2000/svg}text")]
            found[image["alt"].partition(".")[0]] = texts
        return found


def page_of(tmp_path, *folders):
    path = report.write(folders, tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    return Page(path.read_text(encoding="utf-8"))


# The numbers.


def test_results_stand_beside_the_published_numbers(tmp_path):
    page = page_of(tmp_path, make(tmp_path / "a"))
    header, size, db, baseline = page.tables[0]
    assert header == [
        *("Method", "Strength", "n", "Mean", "Deviation", "Published", "Difference", "Remarks")
    ]
    assert size == ["5 images per class"]
    std = f"{statistics.stdev([92.0, 93.0]):.2f}"
    assert db == ["db", "1", "2", "92.50", std, "90.00 ± 0.50", "+2.50", ""]
    assert baseline == ["baseline", "", "2", "88.50", std, "-", "-", ""]
    assert "Published (n=10): A paper" in page.text
    assert ("strong", {}) in page.tags
    assert "Unfinished" not in page.text
    assert "diverged:" not in page.text


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


def test_an_older_folder_is_read_and_left_as_it_was(tmp_path):
    folder = make(tmp_path / "a")
    with (folder / "runs.jsonl").open("a") as file:
        file.write('{"method": "db", "lo')  # being written when the process died
    before = {path: path.read_bytes() for path in folder.iterdir()}
    page = page_of(tmp_path, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not {"Learning curves", "Accuracy by class"} & set(page.headings)
    assert page.tables[0][2][3] == "92.50"


def test_only_runs_of_the_config_count(tmp_path):
    folder = make(tmp_path / "a")
    text = (folder / "runs.jsonl").read_text()
    other = text.replace("weight=1.0", "weight=2.0").replace("0.9", "0.1")
    (folder / "runs.jsonl").write_text(text + other.splitlines()[2] + "\n")
    assert page_of(tmp_path, folder).tables[0][2][2:4] == ["2", "92.50"]


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


# The curves.


def cells_of(folder, lines):
    found = run_folder.read(folder)
    return curves.gather(lines, found.chosen, found.planned)


def planned(folder, **fields):
    return [
        run
        for run in run_folder.read(folder).planned
        if all(getattr(run, name) == value for name, value in fields.items())
    ]


def test_curves_are_means_over_the_seeds_at_the_chosen_strength(tmp_path):
    folder = make(tmp_path / "a")
    first, second = planned(folder, strength=1.0)
    (worse, _) = planned(folder, strength=0.1)
    lines = [
        line(first, 10, total=9.0, l2=0.5),
        line(first, 10, total=1.0, l2=0.5),  # repeated after a restart
        line(second, 10, total=2.0, l2=None),
        line(first, 20, total=4.0, l2=0.25, gradient_norm=1.0),
        line(worse, 10, total=100.0, l2=100.0),
        line(first, 10, "evaluation", test_accuracy=0.75, note="text"),
        line(first, 10, total=7.0) | {"method": "other"},
        line(first, 10, total=7.0) | {"seed": 5},
    ]
    found = cells_of(folder, lines)
    assert list(found) == ["test_accuracy", "total", "l2"]
    total = found["total"]["db", 5]
    np.testing.assert_allclose(total.epoch, [1.0, 2.0])
    np.testing.assert_allclose(total.mean, [1.5, 4.0])
    np.testing.assert_allclose(total.std, [statistics.stdev([1.0, 2.0]), 0.0])
    np.testing.assert_allclose(found["l2"]["db", 5].mean, [0.5, 0.25])


def test_before_any_run_has_finished_the_first_strength_stands(tmp_path):
    folder = make(tmp_path / "a", keep=lambda run: False)
    (low, _), (high, _) = planned(folder, strength=0.1), planned(folder, strength=1.0)
    found = cells_of(folder, [line(low, 10, total=1.0), line(high, 10, total=5.0)])
    np.testing.assert_allclose(found["total"]["db", 5].mean, [1.0])


def test_long_curves_are_thinned_to_their_means():
    epoch = np.arange(1, 3001) / 100
    runs = [np.stack([epoch, slope * epoch], 1) for slope in (1.0, 3.0)]
    runs[1] = runs[1][:1500]  # interrupted
    curve = curves.average(runs)
    assert len(curve.epoch) <= curves.POINTS
    slope = np.where(curve.epoch < 15, 2.0, 1.0)
    inside = abs(curve.epoch - 15) > 0.3
    np.testing.assert_allclose(curve.mean[inside], (slope * curve.epoch)[inside], rtol=1e-9)
    early, late = curve.epoch < 14.7, curve.epoch > 15.3
    np.testing.assert_allclose(curve.std[early], np.sqrt(2) * curve.epoch[early], rtol=1e-9)
    np.testing.assert_allclose(curve.std[late], 0.0)


def curve(*mean):
    return curves.Curve(np.arange(len(mean), dtype=float), np.array(mean), np.full(len(mean), 0.1))


def draw(quantity, cells):
    return curves.draw(quantity, cells, plots.styles(["db", "baseline"], []))


def test_accuracies_are_drawn_in_percent_with_a_band():
    figure = draw("test_accuracy", {("db", 5): curve(0.5, 0.8), ("db", 10): curve(0.6, 0.9)})
    assert [axes.get_title() for axes in figure.axes] == [
        *("5 images per class", "10 images per class")
    ]
    (axes, _) = figure.axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50.0, 80.0])
    assert axes.collections[0].get_paths()[0].get_extents().ymax == pytest.approx(90.0)
    assert figure.get_supylabel() == "test accuracy (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["db"]


def test_values_over_decades_have_log_scales_in_every_panel():
    cells = {("db", 5): curve(1.0, 0.5), ("db", 10): curve(1.0, 0.01)}
    assert {axes.get_yscale() for axes in draw("total", cells).axes} == {"log"}
    cells["db", 10] = curve(1.0, -0.01)
    assert {axes.get_yscale() for axes in draw("total", cells).axes} == {"linear"}


def test_a_curve_without_a_finite_value_is_drawn(tmp_path):
    folder = make(tmp_path / "a")
    (first, _) = planned(folder, strength=1.0)
    found = cells_of(folder, [line(first, 10, total=None)])
    assert draw("total", found["total"]).axes


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
    assert list(page.images())[2:] == titles
    assert page.headings[-5:-1] == titles
    alt = next(i["alt"] for i in page.all("img") if i["alt"].startswith("validation"))
    assert "db, 5 per class: 91.5" in alt


# The page.


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


# Bad input.


def test_no_folders():
    with pytest.raises(ConfigError, match="no folder to report on"):
        report.write([], "page.html")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", None, r"holds no config\.json"),
        ("config.json", "{", "damaged or no comparison's"),
        ("config.json", json.dumps(make_config(seeds="2")), r"\(see seeds\)"),
        ("config.json", json.dumps(make_config(train_sizes=["x"])), r"\(see train_sizes\)"),
        ("config.json", json.dumps(make_config(losses={"x": "nothing"})), r"losses\.x: .*nothing"),
        ("config.json", json.dumps(make_config(losses={"x": 3})), r"losses\.x"),
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
        report.write([tmp_path / "a"], tmp_path / "page.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"method": ["db"]},
        {"seed": "0"},
        {"strength": "1"},
        {"test_accuracy": "high"},
        {"class_accuracy": 3},
        {"class_accuracy": ["x"]},
    ],
)
def test_a_damaged_record_is_one_sentence(tmp_path, changed):
    folder = make(tmp_path / "a")
    lines = (folder / "runs.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | changed)
    (folder / "runs.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="line 2 of"):
        run_folder.read(folder)


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


def test_a_curve_of_one_point_is_seen():
    cells = {("m", 5): curves.Curve(np.array([2.0]), np.array([0.5]), np.array([0.0]))}
    look = plots.styles(["m"], [])
    (line,) = curves.draw("test_accuracy", cells, look).axes[0].lines
    assert line.get_markevery() is None
    assert line.get_marker() not in ("", "None")


# Perturbations.

WHITE, HALF = "white_noise(sigma=(0.1, 0.3))", "pgd(epsilon=(0.1, 0.5))"


def scored(run, text, *accuracy, **others):
    fields = {name: getattr(run, name) for name in ("method", "loss", "train_size", "strength")}
    series = {name: [0.1] * len(accuracy) for name in ("levels", "nll", "ece")}
    return fields | {"seed": run.seed, "text": text, "accuracy": accuracy} | series | others


def make_robust(folder, perturbations, *lines, end="", **changes):
    """A folder whose db at strength 1.0, which is chosen, and baseline were tested."""
    paper = {"db": {"white <i>": [83.0, None]}}
    config = make_config(perturbations=perturbations, published_robustness=paper, **changes)
    make(folder, config, class_accuracy=[0.9] * 10)
    planned = run_folder.read(folder).planned
    records = [line(run) for run in planned if run.strength != 0.1 for line in lines]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "robustness.jsonl").write_text(text + end)
    return folder


def white(run):
    return scored(run, WHITE, 0.8 + 0.02 * run.seed, {"db": 0.5}.get(run.method, 0.3))


def fog(run):
    return scored(run, "corruption(name='fog', severity=(1, 2))", 0.9, 0.7)


def half(run):
    return scored(run, HALF, 0.9, 0.0 if run.method == "db" else 0.4)


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


def test_scores_of_runs_that_are_not_the_configs_do_not_count(tmp_path):
    folder = make_robust(tmp_path / "a", {"white <i>": WHITE}, white)
    config = json.loads((folder / "config.json").read_text()) | {"seeds": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert page_of(tmp_path, folder).tables[2][1][1] == "80.00 (n=1)"


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
        page_of(tmp_path, folder)
