"""The notebooks run cell by cell, draw their figures, and what their text claims is so.

Covers `compose.py`, `few_labels.py`, `notebooks/isda.py` and `jacobian.py` too.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import experiments.gallery.notebooks
import regjax as rj

FOLDER = Path(experiments.gallery.notebooks.__file__).parent
AGAIN = "run python -m experiments.gallery.render"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of figures at every `plt.show()`, which draws and closes them."""
    shown: list[int] = []

    def show() -> None:
        shown.append(len(plt.get_fignums()))
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.canvas.draw()
            assert all(axes.has_data() for axes in figure.axes[:2]), "a figure without data"
        plt.close("all")

    before = plt.get_backend()
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", show)
    yield shown
    plt.close("all")
    plt.switch_backend(before)


def cells(name: str) -> list[tuple[str, int, str]]:
    """A notebook's cells: kind, "code" or "markdown", line of its first row, and text."""
    parts = re.split(r"^# %%(.*)\n", (FOLDER / f"{name}.py").read_text(), flags=re.MULTILINE)
    assert parts[0] == "", f"{name} does not start with a cell"
    found, line = [], 1
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        assert kind in ("", " [markdown]"), f"{name}, line {line}: unknown cell '# %%{kind}'"
        found.append(("markdown" if kind else "code", line + 1, text))
        line += 1 + text.count("\n")
    return found


def run(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    first: int | None = None,
    shorter: tuple[str, str] = ("", ""),
) -> SimpleNamespace:
    """Executes all or the first cells one after the other; returns the names that they define.

    In the text of the cells the second of `shorter` stands in the place of the first.
    """
    module = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    for kind, line, text in cells(name)[:first]:
        if kind == "code":
            text = text.replace(*shorter) if shorter[0] else text
            code = compile("\n" * (line - 1) + text, str(FOLDER / f"{name}.py"), "exec")
            try:
                exec(code, module.__dict__)
            except Exception as error:
                error.add_note(f"in the cell of {name}.py that starts at line {line}")
                raise
    return SimpleNamespace(**module.__dict__)


def test_there_are_notebooks_and_none_hides_a_module():
    assert {"compose", "few_labels", "isda", "jacobian"} <= set(NAMES)
    # Run as a script, a notebook's folder comes first where modules are looked for.
    assert [name for name in NAMES if importlib.util.find_spec(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_markdown_or_code(name):
    found = cells(name)
    assert found[0][0] == "markdown"
    assert found[0][2].startswith('"""# ')  # the title, and the module's docstring
    for kind, line, text in found[1:]:
        rows = text.strip().splitlines()
        assert rows, f"{name}, line {line}: an empty cell"
        if kind == "markdown":
            assert all(row.startswith("#") for row in rows), f"{name}, line {line}: not a comment"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_rendered_is_what_stands_here(name):
    """The .ipynb is of these very cells, ran without errors, and shows every figure."""
    rendered = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    written = cells(name)
    assert [cell["cell_type"] for cell in rendered] == [kind for kind, _, _ in written]
    for (kind, line, text), cell in zip(written, rendered, strict=True):
        if kind == "code":
            assert "".join(cell["source"]) == text.strip(), f"{name}, line {line}: {AGAIN}"
        else:
            words = re.findall(r"\w+", text.replace('"""', ""))
            assert re.findall(r"\w+", "".join(cell["source"])) == words, f"line {line}: {AGAIN}"
    outputs = [output for cell in rendered for output in cell.get("outputs", [])]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    assert shown == (FOLDER / f"{name}.py").read_text().count("plt.show()")


def test_rendered_notebooks_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < 1e6


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cells_run(name, monkeypatch):
    book = run(name, monkeypatch, first=4)
    assert book.rj is rj


@pytest.mark.slow
def test_compose(monkeypatch, figures, capsys):
    book = run("compose", monkeypatch)
    assert figures == [1] * 4
    assert rj.parse(repr(book.composed)) == book.composed
    assert repr(book.composed) in capsys.readouterr().out
    # The jitted step took the loss as an argument: a program for each of two structures.
    assert book.jitted_step._cache_size() == 2
    assert book.sweep._cache_size() == 2
    for history in (book.plain_history, book.composed_history):
        assert history["cross_entropy"].shape == (book.STEPS,)
        assert history["cross_entropy"][-20:].mean() < 0.7 * history["cross_entropy"][:20].mean()
    # Mixed labels keep the composed loss high, though the network is as good.
    late = slice(-50, None)
    mixed, plain = (
        h["cross_entropy"][late].mean() for h in (book.composed_history, book.plain_history)
    )
    assert mixed > 2 * plain
    assert book.plain_accuracy[0, 0] > 0.8
    assert book.composed_accuracy[0, 0] > 0.8
    np.testing.assert_allclose(book.plain_accuracy[:, 0], book.plain_accuracy[0, 0])
    assert (book.plain_accuracy[:, -1] < book.plain_accuracy[:, 0]).all()
    # Strengths of 0 are the plain loss, by another program and draws.
    assert book.scores["accuracy"].shape == (2, len(book.WEIGHTS), len(book.SEEDS))
    assert abs(book.scores["accuracy"][0, 0].mean() - book.plain_accuracy[0, 0]) < 0.04
    assert (book.noisy[0, -1] > book.noisy[0, 0]).all()
    assert book.own == book.confidence(book.nudge(book.plain, rate=0.9), weight=0.3)
    error = book.own_scores["calibration error"].mean(1)
    assert error[2] > error[0]  # what pushes towards uncertainty makes a network too unsure
    np.testing.assert_allclose(
        book.own_scores["accuracy"][0], book.scores["accuracy"][0, 0], atol=0.02
    )


@pytest.mark.slow
def test_jacobian(monkeypatch, figures):
    book = run("jacobian", monkeypatch)
    assert figures == [1] * 4
    scores = {name: value.mean(1) for name, value in book.scores.items()}
    # More penalty, a flatter network, which fits less; in between, a better one.
    assert scores["norm at test points"][-1] < 0.5 * scores["norm at test points"][0]
    assert scores["training accuracy"][0] > scores["training accuracy"][-1]
    assert 0 < book.best < len(book.WEIGHTS) - 1
    assert scores["test accuracy"][book.best] > scores["test accuracy"][[0, -1]].max()
    assert (scores["norm at training points"] < scores["norm at test points"]).all()
    # Margins grow; the estimate at a point exceeds them, the guarantee only as grids are coarse.
    assert (np.diff(book.margins.mean(1)) > 0).all()
    assert (book.estimates > book.margins).mean() > 0.5
    assert (book.guarantees - book.margins).max() < book.axis[1] - book.axis[0]
    wrong = book.margins == 0
    assert (book.guarantees[wrong] == 0).all()
    # One probe is right in the mean, and its error falls with the root of their number.
    assert abs(book.deviation) < 4
    gradient = np.array(book.gradient_errors)
    np.testing.assert_allclose(gradient * np.sqrt(book.counts), gradient[0], rtol=0.35)
    for k in book.SHOWN[1:]:
        exact, probed = (s["test accuracy"][k].mean() for s in (book.scores, book.probed_scores))
        assert abs(exact - probed) < 0.06


@pytest.mark.slow
def test_few_labels(monkeypatch, figures):
    """For few steps: a whole run takes minutes with the suite's compiler flags."""
    book = run(
        "few_labels", monkeypatch, shorter=("WIDTH, STEPS = 32, 1000", "WIDTH, STEPS = 8, 20")
    )
    assert book.STEPS == 20
    assert figures == [1]
    assert all(np.isfinite(each).all() for each in book.accuracy.values())


def test_what_the_shown_moons_say_of_each_method():
    """Predictions that stay as they are move the boundary; those that are sure sharpen it."""
    shown = json.loads((FOLDER / "few_labels.ipynb").read_text())["cells"]
    text = "".join(t for cell in shown for o in cell.get("outputs", []) for t in o.get("text", ()))
    line = r"^(\D+?) +([\d.]+) ± +[\d.]+ % \(([+-][\d.]+), better for (\d+) of 10 .* by ([\d.]+) %$"
    found = {name: tuple(map(float, rest)) for name, *rest in re.findall(line, text, re.MULTILINE)}
    assert len(found) == 8
    gain = {name: each[1] for name, each in found.items()}
    for name in ("Pi-model", "temporal ensembling", "VAT", "VAT + ISDA's term"):
        assert gain[name] > 8
        assert found[name][2] > 8  # of ten seeds
    assert 0 < gain["mean teacher"] < gain["Pi-model"]
    assert max(abs(gain[name]) for name in ("entropy", "ISDA's term")) < 4
    assert abs(gain["VAT + ISDA's term"] - gain["VAT"]) < 3
    assert max(found, key=lambda name: found[name][3]) == "entropy"


@pytest.mark.slow
def test_isda(monkeypatch, figures):
    book = run("isda", monkeypatch)
    assert figures == [1] * 5
    assert book.test_accuracy > 0.85
    # Forgetting follows the network; standing still, the statistics are exact.
    assert book.forgetful_error[-1] < 0.5 * book.faithful_error[-1]
    assert (np.diff(book.standing_error) < 0).all()
    assert book.standing_error[-1] < 1e-5
    features, label = np.asarray(book.outputs.features, np.float64), book.data.train["label"]
    own = features[label[book.chosen] == 3]
    np.testing.assert_allclose(book.matrices[3], np.cov(own.T, bias=True), atol=1e-4)
    # Few directions; and those in which classes differ are among them.
    assert book.effective.max() < book.FEATURES / 3
    assert book.inside.mean() > 2 * (book.CLASSES - 1) / book.FEATURES
    rates = {name: rate[-1] for name, rate in book.premise.items()}
    assert rates["another class's covariance"] < rates["own class's covariance"]
    assert rates["own class's covariance"] < rates["the same in all directions"]
    # A bound, and the looser the larger the strength.
    assert (book.full_bound >= book.sampled_loss - 1e-4).all()
    assert book.ratio[-1] > 2 * book.ratio[0] > 2
    np.testing.assert_allclose(book.full_bound[0], book.sampled_loss[0], rtol=1e-4)
    # Sketches approach the full covariance; "shared" has the classes' distances in it.
    assert (np.diff(book.sketch_errors) < 0).all()
    assert book.sketch_errors[-1] < 0.05
    assert book.errors["shared"] > 1
