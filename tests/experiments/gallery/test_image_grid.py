"""Rows of images as one picture."""

import numpy as np

from experiments.gallery import image_grid


def test_images_stand_in_rows_with_a_gap() -> None:
    image = np.arange(6).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 2, 4, 1)) / 10
    found = image_grid.grid(image)
    assert (found.shape, found.dtype) == ((6, 16, 1), np.uint8)
    for row in range(2):
        for column in range(3):
            own = found[4 * row : 4 * row + 2, 6 * column : 6 * column + 4]
            assert (own == round(255 * image[row, column, 0, 0, 0])).all()
    assert (found[2:4] == 255).all()
    assert (found[:, 4:6] == 255).all()


def test_what_is_not_finite_is_black_and_nothing_leaves_the_range() -> None:
    image = np.array([np.nan, -1.0, 2.0, np.inf]).reshape(1, 4, 1, 1, 1)
    assert image_grid.grid(image)[0, ::3, 0].tolist() == [0, 0, 255, 255]
