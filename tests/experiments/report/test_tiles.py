"""Rows of images in one array."""

import numpy as np

from experiments.report import tiles
from experiments.report.tiles import GAP


def test_images_stand_in_rows_with_a_gap() -> None:
    image = np.arange(6).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 2, 4, 1)) / 10
    found = tiles.sheet(image)
    high, wide = 2 + GAP, 4 + GAP
    assert (found.shape, found.dtype) == ((2 * high, 3 * wide, 3), np.uint8)
    for row in range(2):
        for column in range(3):
            own = found[high * row :, wide * column :][:high, :wide]
            assert (own[:2, :4] == round(255 * image[row, column, 0, 0, 0])).all()
            assert (own[2:] == 255).all()
            assert (own[:, 4:] == 255).all()


def test_what_is_not_finite_is_black_or_white_and_nothing_leaves_the_range() -> None:
    image = np.array([np.nan, -1.0, 2.0, np.inf, -np.inf])
    assert tiles.as_bytes(image).tolist() == [0, 0, 255, 255, 0]
