"""An array that grows in a file, and what is left of it when its process is killed."""

import numpy as np
import pytest

from experiments.data.array_file import ArrayFile, write

ROWS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)


@pytest.fixture
def file(tmp_path):
    return ArrayFile(tmp_path / "x.npy", (6, 2, 2), np.float32)


def test_it_is_what_numpy_writes_once_it_is_whole(file):
    assert file.left == ROWS.nbytes
    file.go_on(0)
    for first in range(0, 6, 4):
        file.append(ROWS[first : first + 4])
        assert not file.path.exists()
    assert [len(rows) for rows in file.rows(4)] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(list(file.rows(4))), ROWS)
    file.finish()
    np.testing.assert_array_equal(np.load(file.path), ROWS)
    assert file.left == 0
    file.go_on(3)
    file.finish()  # again, as after a kill: it stays
    np.testing.assert_array_equal(np.load(file.path, mmap_mode="r"), ROWS)


def test_it_goes_on_behind_the_rows_that_count(file):
    file.go_on(0)
    file.append(ROWS[:3])
    with file.part.open("ab") as torn:
        torn.write(b"torn")
    file.go_on(2)
    file.append(ROWS[2:])
    file.finish()
    np.testing.assert_array_equal(np.load(file.path), ROWS)


@pytest.mark.parametrize("there", [False, True])
def test_rows_that_are_gone_are_one_sentence(file, there):
    if there:
        file.go_on(0)
        file.append(ROWS[:1])
    with pytest.raises(ValueError, match=r"fewer than the 2 rows that were written: delete"):
        file.go_on(2)


def test_numbers_are_converted(tmp_path):
    file = ArrayFile(tmp_path / "x.npy", (6, 2, 2), np.float16)
    file.go_on(0)
    file.append(ROWS)
    file.finish()
    assert np.load(file.path).dtype == np.float16


def test_a_small_array_is_written_whole(tmp_path):
    write(tmp_path / "names.npy", np.array(["a", "bc"]))
    assert np.load(tmp_path / "names.npy").tolist() == ["a", "bc"]
    assert [path.name for path in tmp_path.iterdir()] == ["names.npy"]
