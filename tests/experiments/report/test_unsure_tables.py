"""Tables by class of what is right but not sure, on numbers made up by hand and of a training."""

import numpy as np
import pytest
from tiny_tested import TESTED, found_of, make_config, run, scored

from configs.sign import quick
from experiments import classify
from experiments.gallery import feature_map
from experiments.report import perturbation_tables
from experiments.report.unsure_tables import tables

NAMES = ("cat", "dog", "elk")
OTHER = "dataset(name='photos')"
ACCURACY, COUNT = [0.5, 0.0, 0.75], [10, 0, 20]


def measured(seed):
    """Of seed 0 three cats and one elk are unsure, of seed 1 one cat."""
    unsure = [
        [[0.4, 3, 2.0], [None, 0, None], [0.3, 1, 9.0]],
        [[0.2, 1, 6.0], *[[None, 0, None]] * 2],
    ]
    return {"class_accuracy": ACCURACY, "class_count": COUNT, "unsure_by_class": unsure[seed]}


def of_run(method, seed):
    return run(method, seed, **{f"test_{name}": value for name, value in measured(seed).items()})


def of_test(method, seed):
    lists = {name: [value] for name, value in measured(seed).items()}
    return scored(method, seed, OTHER, (60.0 + seed,), **lists)


def made(runs, records):
    found, chosen = found_of(make_config({"photos": OTHER}), records, runs)
    return tables(found, chosen, runs, records, NAMES)


def test_a_method_has_its_accuracies_and_under_them_what_is_unsure():
    runs = [of_run("NFM", seed) for seed in (0, 1)] + [run("plain", 0)]
    (table,) = made(runs, [])
    assert "clean test images" in table.title
    assert table.columns == ["method", "", "cat (10)", "elk (20)", "all (30)"]
    (first, accuracies), (second, unsure) = table.lines
    assert (first, second) == ("NFM", "")
    assert accuracies == ["accuracy", "50.0", "75.0", "93.0"]
    # Pooled over images: (3 * 0.4 + 0.2) / 4 and so on; numbers are of one seed.
    assert unsure[1:3] == ["0.350 (2) [3]", "0.300 (0.5) [9]"]
    assert unsure[3] == "0.340 (2.5) [4.2]"


def test_another_data_set_has_a_table_of_its_own():
    runs = [run("NFM", 0), run("NFM", 1)]
    (table,) = made(runs, [of_test("NFM", seed) for seed in (0, 1)])
    assert table.title.endswith("; photos, all images:")
    assert table.lines[0][1] == ["accuracy", "50.0", "75.0", "60.5"]
    assert made(runs, [scored("NFM", 0, OTHER, (60.0,))]) == []


def test_nothing_unsure_is_said_so():
    one = of_run("NFM", 1)
    one["test_unsure_by_class"] = [[None, 0, None]] * 3
    (table,) = made([one], [])
    assert table.lines[1][1][1:] == ["N/A (0)"] * 3


def test_several_draws_have_their_deviation_and_variance_beside():
    text = "white_noise(sigma=0.1, draws=3)"
    drawn = [[[0.5, 0.6, 0.7]], [[0.6, 0.6, 0.6]]]
    records = [scored("NFM", seed, text, (60.0,), accuracy_by_draw=drawn[seed]) for seed in (0, 1)]
    config = make_config({"noise": text}, published_robustness={})
    found, _ = found_of(config, records)
    row = found.tested[0, "NFM", "noise"]
    assert row.draw_std == pytest.approx((5.0,))
    assert row.draw_variance == pytest.approx((0.005,))
    (table,) = perturbation_tables.tables(found, ["NFM", "plain"], [0])
    assert table.columns == ["method", "sigma 0.1", "± over 3 draws (variance)"]
    assert [cells[1] for _, cells in table.lines] == ["5.00 (5e-03)", "-"]
    assert all(t.draw_std == () for t in found_of(make_config(), TESTED)[0].tested.values())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "aleatoric"])
def test_a_training_in_small_has_all_tables(form, tmp_path, monkeypatch):
    """From the config to the page: clean, another data set, pixels off, noise, calibration."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    config = quick.get_config("smoke")
    if form:
        other = quick.get_config(form)
        config.losses.update(other.losses)
        config.uncertainty = other.uncertainty
        config.model = other.model.replace("basic_cnn", "small_cnn")
    paths = classify.compare(config, tmp_path / "run")
    table = paths["table"].read_text(encoding="utf-8")
    for words in ("clean test images", "Tiny ImageNet", "over 2 draws", "expected calibration"):
        assert words in table
    assert table.count("p ≤ 0.5 (images) [uncertainty]") == 4
    assert "by class, and of the images" in paths["report"].read_text(encoding="utf-8")
    found, label = feature_map.maps(str(tmp_path / "run"), 0, trained=True)
    assert len(label) == 100
    assert np.bincount(label).tolist() == [10] * 10
    assert found["mixup"].plane.shape == (100, 2)
