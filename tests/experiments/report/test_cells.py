"""Numbers as the text of tables."""

from experiments.report.cells import Table, beside, best_of, cell, minus


def test_a_mean_with_its_deviation():
    assert cell(92.273, 0.4951) == "92.27 ± 0.50"
    assert cell(92.273) == "92.27"
    assert cell(0.12346, 0.5, decimals=4) == "0.1235 ± 0.5000"
    assert cell(1.0, 2.0, n=3) == "1.00 ± 2.00 (n=3)"
    assert cell(None, n=3) == "-"


def test_the_best_is_bold_and_its_n_is_not():
    assert cell(1.0, 2.0, best=1.0, n=3) == "**1.00 ± 2.00** (n=3)"
    assert cell(1.0, best=1.001) == "1.00"
    assert cell(None, best=None) == "-"


def test_a_signed_difference_stands_beside():
    assert beside(90.0, 0.5, difference=-1.234) == "90.00 ± 0.50 (-1.23)"
    assert beside(90.0, difference=2.0, decimals=1) == "90.0 (+2.0)"
    assert beside(90.0) == "90.00"
    assert beside(None, difference=2.0) == "-"
    assert (minus(3.0, 1.0), minus(None, 1.0), minus(3.0, None)) == (2.0, None, None)


def test_the_best_of_those_that_there_are():
    assert best_of([1.0, None, 3.0]) == 3.0
    assert best_of([1.0, None, 3.0], larger_is_better=False) == 1.0
    assert best_of([None]) is None


def test_a_bar_does_not_end_a_cell():
    table = Table("Title:", ["a|b", "c"], [("x|y", ["1"])])
    assert table.markdown().splitlines() == [
        *("Title:", "", r"| a\|b | c |", "| --- | --- |", r"| x\|y | 1 |"),
    ]
