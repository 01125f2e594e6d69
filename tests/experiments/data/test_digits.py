"""The embedded digits: equal to scikit-learn's, and prepared whole or not at all."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from experiments.data import digits
from experiments.data.sources import load

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load("digits", tmp_path_factory.mktemp("digits"))


def test_every_image_and_label_is_scikit_learns(data):
    source = sklearn.datasets.load_digits()
    image = np.concatenate([data.train["image"], data.test["image"]])
    label = np.concatenate([data.train["label"], data.test["label"]])
    np.testing.assert_array_equal(label, source.target)
    # In whole numbers, halves upwards; the only half is 127.5, for the pixel 8.
    pixels = source.images.astype(int)
    np.testing.assert_array_equal(image[..., 0], (pixels * 255 * 2 + 16) // 32)
    np.testing.assert_array_equal(np.round(image[..., 0] / 255 * 16), pixels)
    assert image.dtype == np.uint8
    assert (image.min(), image.max()) == (0, 255)


def test_both_splits_have_every_class_and_no_form_in_common(data):
    for split, least, most in ((data.train, 127, 131), (data.test, 47, 52)):
        counts = np.bincount(split["label"], minlength=data.classes)
        assert (len(split["label"]), counts.min(), counts.max()) == (counts.sum(), least, most)
    # Each form begins with the digits in their order, and ends with 9, 8.
    assert data.test["label"][:20].tolist() == [*range(10), *range(10)]
    assert data.train["label"][-2:].tolist() == [9, 8]


def test_it_is_prepared_once(tmp_path, monkeypatch):
    digits.prepare(tmp_path)
    built = []
    monkeypatch.setattr(digits, "_build", built.append)
    digits.prepare(tmp_path)
    assert not built


def test_an_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch):
    generate = digits.Digits._generate_examples

    def interrupted(self, part):
        yield next(generate(self, part))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(digits.Digits, "_generate_examples", interrupted)
        with pytest.raises(KeyboardInterrupt):
            digits.prepare(tmp_path)
    assert not list((tmp_path / "digits").iterdir())
    assert load("digits", tmp_path).train["label"].size == 1287


def test_what_a_killed_preparation_left_does_no_harm(tmp_path):
    (tmp_path / "digits" / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    assert load("digits", tmp_path).train["label"].size == 1287


def test_another_process_that_finishes_first_wins(tmp_path, monkeypatch):
    # The other one finishes just before this one renames its folder.
    finish = digits.Digits._download_and_prepare

    def overtaken(self, **arguments):
        finish(self, **arguments)
        monkeypatch.setattr(digits.Digits, "_download_and_prepare", finish)
        digits._build(tmp_path)

    monkeypatch.setattr(digits.Digits, "_download_and_prepare", overtaken)
    digits.prepare(tmp_path)
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]
    assert load("digits", tmp_path).test["label"].size == 510


def test_two_processes_at_once_both_succeed_in_silence_without_tensorflow(tmp_path):
    code = (
        "import sys; from experiments.data.sources import load; "
        "print(load('digits', sys.argv[1]).train['image'].sum()); "
        "assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outcomes = [process.communicate() for process in processes]
    assert {errors for _, errors in outcomes} == {""}
    assert len({output for output, _ in outcomes}) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(digits.UnwritableFolderError) as caught:
        load("digits", tmp_path / "file" / "data")
    assert f"{tmp_path / 'file' / 'data'} (Not a directory): name a folder" in str(caught.value)
    assert "TFDS_DATA_DIR" in str(caught.value)
