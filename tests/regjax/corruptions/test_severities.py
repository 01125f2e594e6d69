"""The published parameters: complete, of one form, and not milder for larger images."""

import numpy as np
import pytest

from regjax.corruptions import severities

TABLES = {
    name: table
    for name, table in vars(severities).items()
    if name.isupper() and name != "FROST_SCALE" and not name.startswith("_")
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_five_rows_for_each_size(name: str) -> None:
    table = TABLES[name]
    assert list(table) == ["cifar", "tiny_imagenet", "imagenet"]
    for rows in table.values():
        assert len(rows) == 5
        if name != "ZOOM_BLUR":  # of as many factors as it takes
            assert len({np.shape(row) for row in rows}) == 1


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("GAUSSIAN_NOISE", 1),
        ("SPECKLE_NOISE", 1),
        ("SHOT_NOISE", -1),
        ("IMPULSE_NOISE", 1),
        ("GAUSSIAN_BLUR", 1),
        ("BRIGHTNESS", 1),
        ("CONTRAST", -1),
        ("JPEG_QUALITY", -1),
        ("PIXELATE", -1),
    ],
)
def test_one_number_grows_with_severity_and_size(name: str, sign: int) -> None:
    grid = sign * np.array(list(TABLES[name].values()), float)
    assert (np.diff(grid, axis=1) > 0).all()
    assert (np.diff(grid, axis=0) >= 0).all()


def test_zoom_blurs_factors() -> None:
    """As many as the programs' `np.arange` gives, with its rounding errors."""
    counts = [[len(row) for row in rows] for rows in severities.ZOOM_BLUR.values()]
    assert counts == [[7, 12, 16, 21, 26]] * 2 + [[12, 16, 11, 13, 11]]
    assert severities.ZOOM_BLUR["cifar"][4][-1] == 1.2500000000000002
