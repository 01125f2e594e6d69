"""Tables, figures and sentences about perturbed images, on scores made up by hand."""

import json
import math
import statistics

import numpy as np
import pytest

from experiments.report import perturbation_plots as robustness_plots
from experiments.report import perturbation_tables as robustness_tables
from experiments.report import plots, tables
from experiments.report.perturbation_tables import calibration, corruption_means, gather, gradients
from experiments.runs.selection import select

WHITE = "white_noise(sigma=(0.1, 0.3))"
SALT = "salt_and_pepper(amount=0.04, examples=100)"
FOG, SNOW = "corruption(name='fog', severity=(1, 5))", "corruption(name='snow', severity=(1, 3, 5))"
PGD, HALF = "pgd(epsilon=(0.1, 0.2))", "pgd(epsilon=(0.1, 0.5))"
# Seeds 0 and 1 of each method at each level, in percent.
ACCURACY = {
    ("NFM", WHITE): ((80.0, 60.0), (84.0, 50.0)),
    ("plain", WHITE): ((70.0, 64.0), (72.0, 60.0)),
    ("NFM", SALT): ((40.0,), (50.0,)),
    ("plain", SALT): ((45.0,), (45.0,)),
    ("NFM", FOG): ((80.0, 40.0), (90.0, 50.0)),
    ("plain", FOG): ((70.0, 30.0), (70.0, 50.0)),
    ("NFM", SNOW): ((60.0, 30.0, 30.0), (60.0, 50.0, 10.0)),
    ("plain", SNOW): ((90.0, 60.0, 30.0), (90.0, 60.0, 30.0)),
}


def run(method, seed, size=0, strength=None, **scores):
    names = {"method": method, "loss": f"loss of {method} {strength}", "train_size": size}
    test = {"NFM": 0.92, "plain": 0.9}[method] + 0.02 * seed
    rest = {"train_loss": 0.1, "test_nll": 0.3 + 0.1 * seed, "test_ece": 0.02 + 0.01 * seed}
    rest |= {"test_accuracy": test, "validation_accuracy": test, "class_accuracy": [0.9] * 10}
    return names | {"strength": strength, "seed": seed} | rest | scores


def scored(method, seed, text, accuracy, size=0, strength=None, **scores):
    one = run(method, seed, size, strength)
    names = {n: one[n] for n in ("method", "loss", "train_size", "strength", "seed")}
    accuracy = [a / 100 for a in accuracy]
    ece = [0.1 + 0.2 * seed for _ in accuracy]
    return names | {
        "text": text,
        "levels": list(range(len(accuracy))),
        "accuracy": accuracy,
        "nll": [1.0 for _ in accuracy],
        "ece": ece,
        **scores,
    }


RUNS = [run(method, seed) for method in ("NFM", "plain") for seed in (0, 1)]
TESTED = [
    scored(method, seed, text, accuracy)
    for (method, text), each in ACCURACY.items()
    for seed, accuracy in enumerate(each)
]


def make_config(perturbations=None, **changes):
    return {
        "dataset": "cifar10",
        "model": "preact",
        "losses": {"NFM": "cross_entropy", "plain": "cross_entropy"},
        "strengths": {},
        "train_sizes": [0],
        "seeds": 2,
        "epochs": 3,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "validation_per_class": 0,
        "selection": "test",
        "perturbations": perturbations
        or {"white noise": WHITE, "a|b": SALT, "fog": FOG, "snow": SNOW},
        "published": {"NFM": {"0": (95.4, None)}, "plain": {"0": (94.6, None)}},
        "published_robustness": {"NFM": {"white noise": (83.0, None)}},
        "published_source": "A paper",
        "published_seeds": 5,
        "published_for": ("cifar10", "preact"),
        **changes,
    }


def found_of(config, records=TESTED, runs=RUNS):
    chosen = select(runs, config["selection"])
    return gather(config, chosen, records, tables.published(config)), chosen


def tables_of(config, records=TESTED, runs=RUNS):
    found, _ = found_of(config, records, runs)
    return list(robustness_tables.tables(found, list(config["losses"]), config["train_sizes"]))


# Gathering.


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


# The tables.


def test_every_level_is_a_column_with_the_papers_number_and_the_difference_beside():
    white, *_ = tables_of(make_config())
    assert white.title == f"Accuracy (%) under white noise (`{WHITE}`):"
    assert white.columns == ["method", "sigma 0.1", "paper", "sigma 0.3"]
    deviations = [statistics.stdev(pair) for pair in ((80, 84), (60, 50), (70, 72), (64, 60))]
    a, b, c, d = (f"{std:.2f}" for std in deviations)
    assert white.lines == [
        ("NFM", [f"**82.00 ± {a}** (n=2)", "83.0 (-1.0)", f"55.00 ± {b}"]),
        ("plain", [f"71.00 ± {c} (n=2)", "-", f"**62.00 ± {d}**"]),
    ]


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
    table = calibration(RUNS, chosen, 0)
    assert table.title == "Calibration on clean test images, all images:"
    nll, ece = statistics.stdev([0.3, 0.4]), statistics.stdev([2.0, 3.0])
    cells = [f"0.350 ± {nll:.3f} (n=2)", f"2.500 ± {ece:.3f} (n=2)"]
    assert table.lines == [("NFM", cells), ("plain", cells)]
    (single,) = calibration(RUNS[:1], select(RUNS[:1], "test"), 0).lines
    assert single == ("NFM", ["0.300 (n=1)", "2.000 (n=1)"])
    assert calibration(RUNS, chosen, 50).lines == []


def test_a_diverged_method_has_no_calibration():
    runs = [*RUNS[:3], RUNS[3] | {"test_ece": None, "diverged": "step 1: total"}]
    assert [name for name, _ in calibration(runs, select(runs, "test"), 0).lines] == ["NFM"]


# The check of attacks.


def half(nfm, plain, text=HALF, size=0):
    both = (("NFM", nfm), ("plain", plain))
    return [scored(m, s, text, (90.0, a), size) for m, a in both for s in (0, 1)]


def said(records, text=HALF, runs=RUNS, **changes):
    return list(gradients(found_of(make_config({"PGD": text}, **changes), records, runs)[0], 10))


def test_an_attack_that_misleads_all_is_no_sign_of_masked_gradients():
    assert said(half(0.0, 9.5)) == [
        "Masked gradients: PGD with epsilon 0.5 (chance is 10 %) leaves at most 9.5 % to any "
        "method: no sign of them."
    ]


def test_few_images_may_leave_a_little_more_than_chance():
    assert said(half(0.0, 12.4))[0].endswith("no sign of them.")
    assert "mislead" in said(half(0.0, 12.6))[0]


def test_an_attack_that_leaves_more_than_chance_is_blind():
    (sentence,) = said(half(0.0, 35.0))
    assert sentence == (
        "Masked gradients: PGD with epsilon 0.5 (chance is 10 %) leaves 35.0 % to plain: the "
        "attack does not see what these networks do, so its numbers mislead."
    )


def test_the_largest_epsilon_counts_wherever_it_stands():
    text = "pgd(epsilon=(0.5, 0.1))"
    records = [scored("NFM", 0, text, (2.0, 80.0))]
    assert "leaves at most 2.0 %" in said(records, text)[0]


@pytest.mark.parametrize(
    "text", [PGD, "pgd(epsilon=(0.1, 0.5), norm='l2')", "fgsm(epsilon=(0.1, 0.5))"]
)
def test_a_small_ball_another_norm_and_one_step_say_nothing(text):
    assert said(half(90.0, 90.0, text), text) == []
    assert said([], HALF) == []


def test_a_blind_attack_on_one_training_size_is_not_hidden_by_another():
    runs = [r | {"train_size": size} for r in RUNS for size in (0, 50)]
    records = half(60.0, 0.0, size=50) + half(0.0, 0.0)
    (sentence,) = said(records, runs=runs, train_sizes=[50, 0])
    assert "leaves 60.0 % to NFM (50 per class): the attack does not see" in sentence


# The figures.


def lines_of(axes):
    return {line.get_label(): line for line in axes.lines if line.get_linestyle() != "None"}


def test_a_curve_for_every_perturbation_begins_with_the_clean_images():
    found, chosen = found_of(make_config())
    figure = robustness_plots.curves(found, chosen, ["NFM", "plain"])
    white, salt = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["white noise", "a|b"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["sigma", "amount"]
    nfm = lines_of(white)["NFM"]
    np.testing.assert_allclose(nfm.get_xdata(), [0, 0.1, 0.3])
    np.testing.assert_allclose(nfm.get_ydata(), [93, 82, 55])
    band = white.collections[0].get_paths()[0].vertices
    clean, first = (statistics.stdev(pair) for pair in ((92, 94), (80, 84)))
    np.testing.assert_allclose(max(y for x, y in band if x == 0), 93 + clean)
    np.testing.assert_allclose(min(y for x, y in band if x == 0.1), 82 - first)
    # Of some of the images the clean accuracy is not known.
    np.testing.assert_allclose(lines_of(salt)["NFM"].get_xdata(), [0.04])
    (hollow,) = [line for line in white.lines if line.get_mfc() == "white"]
    np.testing.assert_allclose(hollow.get_xdata(), [0.1, 0.3])
    np.testing.assert_allclose(np.array(hollow.get_ydata(), float), [83.0, math.nan])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["NFM", "plain"]


def test_levels_are_drawn_in_order_and_0_is_not_drawn_twice():
    text = "white_noise(sigma=(0.3, 0.0))"
    records = [scored("NFM", s, text, (50.0, 90.0)) for s in (0, 1)]
    found, chosen = found_of(make_config({"x": text}), records)
    (axes,) = robustness_plots.curves(found, chosen, ["NFM", "plain"]).axes
    assert list(lines_of(axes)) == ["NFM"]
    np.testing.assert_allclose(lines_of(axes)["NFM"].get_xdata(), [0, 0.3])
    np.testing.assert_allclose(lines_of(axes)["NFM"].get_ydata(), [90, 50])


def test_a_marker_for_every_corruption_and_method():
    found, chosen = found_of(make_config())
    figure = robustness_plots.corruptions(found, chosen, ["NFM", "plain"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog", "snow", "mean"]
    points = {line.get_label(): line.get_xydata() for line in axes.lines[:2]}
    np.testing.assert_allclose(points["NFM"], [[65, 2], [40, 1], [52.5, 0]])
    np.testing.assert_allclose(points["plain"], [[55, 2], [60, 1], [57.5, 0]])
    assert axes.lines[0].get_linestyle() == "None"


# Together.


def test_write_has_the_tables_the_figures_and_the_numbers(tmp_path):
    config = make_config(make_config()["perturbations"] | {"PGD": HALF})
    paths = tables.write(tmp_path, RUNS, config, {"device": "x"}, TESTED + half(0.0, 50.0))
    assert {"robustness", "corruptions"} < set(paths)
    for name in ("robustness", "corruptions"):
        assert paths[name].read_bytes().startswith(b"\x89PNG")
    text = paths["table"].read_text()
    parts = [
        *tables_of(config, TESTED + half(0.0, 50.0)),
        calibration(RUNS, select(RUNS, "test"), 0),
    ]
    for table in parts:
        assert table.markdown() in text
    assert "leaves 50.0 % to plain: the attack does not see" in text
    results = json.loads(paths["results"].read_text())["robustness"]
    assert len(results) == 10
    assert results[0]["mean"] == pytest.approx([82.0, 55.0])


def test_where_nothing_was_tested_nothing_is_said_of_it(tmp_path):
    paths = tables.write(tmp_path, RUNS, make_config(), {}, [])
    assert set(paths) == {"results", "table", "accuracy_by_size"}
    assert "under" not in paths["table"].read_text()
    config = make_config()
    for name in ("perturbations", "published_robustness"):
        del config[name]  # of an older version
    tables.write(tmp_path, RUNS, config, {}, TESTED)
    assert "under" not in paths["table"].read_text()


def test_figures_of_several_sizes_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "render", lambda *_: b"")
    runs = [r | {"train_size": size} for r in RUNS for size in (0, 50)]
    records = TESTED + [r | {"train_size": 50} for r in TESTED if r["text"] == WHITE]
    paths = tables.write(tmp_path, runs, make_config(train_sizes=[0, 50]), {}, records)
    assert {name for name in paths if name[0] in "rc"} == {
        *("results", "robustness_0", "robustness_50", "corruptions_0"),
    }
