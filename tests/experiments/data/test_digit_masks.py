"""Sheets of digits: each place of one shows a digit, whose ink is of its class."""

import numpy as np
import pytest

from experiments.data import sources
from experiments.data.digit_masks import digit_masks


def test_a_sheet_is_nine_digits_with_their_classes(tmp_path):
    digits, sheets = sources.load("digits", tmp_path), digit_masks(tmp_path, 0)
    assert (sheets.classes, sheets.class_names[0], sheets.class_names[10]) == (11, "paper", "9")
    for ours, theirs in ((sheets.train, digits.train), (sheets.test, digits.test)):
        assert len(ours["image"]) == len(theirs["image"]) // 9
        assert ours["label"].dtype == np.uint8
        for number in range(9 * len(ours["image"])):
            sheet, place = divmod(number, 9)
            row, column = (slice(8 * i, 8 * i + 8) for i in divmod(place, 3))
            image, mask = (ours[name][sheet, row, column] for name in ("image", "label"))
            np.testing.assert_array_equal(image, theirs["image"][number])
            bright = image[..., 0].astype(int)
            expected = np.full((8, 8), 255)
            expected[bright < 65], expected[bright > 127] = 0, 1 + theirs["label"][number]
            np.testing.assert_array_equal(mask, expected)


def test_another_size_is_refused(tmp_path):
    assert digit_masks(tmp_path, 24).test["image"].shape == (56, 24, 24, 1)
    with pytest.raises(ValueError, match="of 24 x 24 pixels, not 8"):
        digit_masks(tmp_path, 8)
