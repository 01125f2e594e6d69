"""Numbers as the text of tables."""

from experiments.report.cells import Table, beside, cell, interval, minus, signed


def test_a_mean_with_its_deviation():
    assert cell(92.273, 0.4951) == "92.27 ± 0.50"
    assert cell(92.273) == "92.27"
    assert cell(0.12346, 0.5, decimals=4) == "0.1235 ± 0.5000"
    assert cell(1.0, 2.0, n=3) == "1.00 ± 2.00 (n=3)"
    assert cell(None, n=3) == "-"


def test_bold_is_the_mean_and_not_its_n():
    assert cell(1.0, 2.0, bold=True, n=3) == "**1.00 ± 2.00** (n=3)"
    assert cell(None, bold=True) == "-"


def test_a_signed_difference_stands_beside():
    assert beside(90.0, 0.5, difference=-1.234) == "90.00 ± 0.50 (-1.23)"
    assert beside(90.0, difference=2.0, decimals=1) == "90.0 (+2.0)"
    assert beside(90.0) == "90.00"
    assert beside(None, difference=2.0) == "-"
    assert (minus(3.0, 1.0), minus(None, 1.0), minus(3.0, None)) == (2.0, None, None)


def test_what_rounds_to_zero_has_no_minus():
    assert [signed(x) for x in (-0.004, 0.004, -0.006)] == ["+0.00", "+0.00", "-0.01"]
    assert interval(-0.0004, 1.5, decimals=3) == "[+0.000, +1.500]"
    assert interval(None, None) == "-"


def test_a_bar_does_not_end_a_cell():
    table = Table("Title:", ["a|b", "c"], [("x|y", ["1"])])
    assert table.markdown().splitlines() == [
        *("Title:", "", r"| a\|b | c |", "| --- | --- |", r"| x\|y | 1 |"),
    ]
