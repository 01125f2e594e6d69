"""What ISDA adds to networks, against its paper's Table 3."""

import pytest

from experiments.benchmark import isda_networks
from experiments.benchmark.isda_networks import PAPER, as_in_the_paper, counted


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("name", PAPER)
def test_the_added_cost_is_the_papers(name, classes):
    network = PAPER[name]
    found = as_in_the_paper(network.features, classes, network.batch) / 1e6
    # 5 %, and what rounding to two decimals may hide.
    assert found == pytest.approx(network.added[classes].millions, rel=0.05, abs=0.005)


def test_the_papers_percentages_are_its_costs_over_its_networks():
    for network in PAPER.values():
        for added in network.added.values():
            percent = 100 * added.millions / network.millions
            assert percent == pytest.approx(added.percent, rel=0.01, abs=0.006)


def test_the_counted_products_are_those_of_the_update_and_of_each_class_once():
    """All classes' covariances in one piece of work, the update 17 rows at a time."""
    features, classes, batch = 6, 3, 16
    update = (classes + batch // 16) * 17 * features**2
    bound = 8 * classes * features**2  # 8 classes are a piece
    found = counted(features, classes, batch) * batch
    assert update <= found <= update + 2 * bound


def test_a_row_has_the_network_beside_the_papers():
    first, second = isda_networks.rows(("resnet32",))
    assert (first["classes"], second["classes"]) == (10, 100)
    assert first["own"] == pytest.approx(62.9, abs=0.1)  # products with padding left out
    assert first["own_paper"] == 69.43
    assert second["percent"] == pytest.approx(100 * second["added"] / second["own"])
