"""Streams: order, stripes, workers, where they are taken up again, crops, and what is said.

Covers `crops.py`, `data/records.py`, `stripes.py` and `workers.py` too.
"""

import io
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_imagenet
from PIL import Image

from experiments.data import crops, records, subsets
from experiments.data.sources import DataError, MissingDataError
from experiments.data.streams import Streams
from experiments.data.stripes import TrainChunks, make_stripe

SIZE = 16
EXAMPLES, TEST_EXAMPLES = tiny_imagenet.SPLITS["train"], tiny_imagenet.SPLITS["test"]
BATCH = 8  # two and a half batches are an epoch
SHARD = "tiny_imagenet-train.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_imagenet.prepare(folder)
    return folder


def opened(folder, workers=0):
    return Streams("tiny_imagenet", folder, image_size=SIZE, workers=workers)


def taken(stream, count):
    try:
        return list(itertools.islice(stream, count))
    finally:
        stream.close()


@pytest.fixture(scope="module")
def reference(folder):
    """Six batches, more than two epochs."""
    return taken(opened(folder).train(BATCH, seed=3), 6)


def assert_same_batches(actual, desired):
    for a, d in zip(actual, desired, strict=True):
        for x, y in zip(a, d, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def test_what_a_stream_says_of_itself(folder):
    streams = opened(folder)
    assert streams.classes == tiny_imagenet.CLASSES
    assert (streams.class_names, streams.scored) == (("0", "1", "2", "3"), "test")
    assert streams.shape == (SIZE, SIZE, 3)
    assert (streams.examples, streams.test_examples) == (EXAMPLES, TEST_EXAMPLES)
    assert "tensorflow" not in sys.modules


def test_classes_are_counted_without_decoding_an_image(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_AT_ONCE", 6)
    assert opened(folder).class_counts.tolist() == [5, 5, 5, 5]
    tiny_imagenet.prepare(tmp_path, splits={"train": 6, "test": 4}, encode=lambda i: b"broken")
    assert opened(tmp_path).class_counts.tolist() == [2, 2, 1, 1]


def test_batches_have_the_promised_types(reference):
    for image, label, index in reference:
        assert (image.shape, image.dtype) == ((BATCH, SIZE, SIZE, 3), np.uint8)
        assert (label.shape, label.dtype) == ((BATCH,), np.int32)
        assert (index.shape, index.dtype) == ((BATCH,), np.int32)
        assert type(image) is np.ndarray
        np.testing.assert_array_equal(label, index % tiny_imagenet.CLASSES)


def test_every_epoch_holds_each_example_once_in_an_order_of_its_own(folder, reference):
    index = np.concatenate([batch[2] for batch in reference])
    first, second = index[:EXAMPLES], index[EXAMPLES : 2 * EXAMPLES]
    assert sorted(first) == sorted(second) == list(range(EXAMPLES))
    assert not np.array_equal(first, second)
    other = taken(opened(folder).train(BATCH, seed=4), 1)[0][2]
    assert not np.array_equal(other, index[:BATCH])


def test_an_example_is_cropped_anew_in_every_epoch(reference):
    image, _, index = (np.concatenate(parts) for parts in zip(*reference, strict=True))
    first, second = np.argsort(index[:EXAMPLES]), np.argsort(index[EXAMPLES : 2 * EXAMPLES])
    same = (image[first] == image[EXAMPLES + second]).all((1, 2, 3))
    assert not same.any()


def test_processes_side_by_side_are_one_process(folder, reference):
    stripes = [opened(folder).train(BATCH, 3, p, 4) for p in range(4)]
    for batch in reference:
        parts = [next(stripe) for stripe in stripes]
        joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
        assert_same_batches([joined], [batch])
    for stripe in stripes:
        stripe.close()


def test_a_process_reads_and_decodes_nothing_but_its_own(folder, reference, monkeypatch):
    read, decoded = [], []
    records_of, random_crop = records.RecordSplit._records, crops.random_crop

    def reading(split, indices):
        read.extend(indices)
        return records_of(split, indices)

    def cropping(encoded, *arguments):
        decoded.append(encoded)
        return random_crop(encoded, *arguments)

    monkeypatch.setattr(records.RecordSplit, "_records", reading)
    split, _ = records.open_splits("tiny_imagenet", folder)
    read.clear()
    monkeypatch.setattr(crops, "random_crop", cropping)
    source = TrainChunks(split, (SIZE, SIZE, 3), make_stripe(BATCH, 1, 4), 3)
    for chunk in range(6):  # as many as batches, for they are small
        source[chunk]
    assert read == [i for batch in reference for i in batch[2][2:4]]
    assert decoded == [tiny_imagenet.jpeg(int(i)) for i in read]


def test_large_batches_are_those_of_small_ones(tmp_path):
    tiny_imagenet.prepare(tmp_path, splits={"train": 90, "test": 1})
    large = taken(opened(tmp_path).train(90, 0), 1)
    small = taken(opened(tmp_path).train(10, 0), 9)
    assert_same_batches([tuple(map(np.concatenate, zip(*small, strict=True)))], large)


def test_a_stream_taken_up_again_goes_on_exactly(folder, reference):
    stream = opened(folder).train(BATCH, 3)
    taken_first = [next(stream) for _ in range(2)]
    state = json.loads(json.dumps(stream.state()))
    ahead = next(stream)
    stream.restore(state)
    assert_same_batches([*taken_first, ahead], reference[:3])
    assert_same_batches(taken(stream, 4), reference[2:])
    fresh = opened(folder).train(BATCH, 3)
    fresh.restore({"next_batch": 5})
    assert fresh.state() == {"next_batch": 5}
    assert_same_batches(taken(fresh, 1), reference[5:])
    with pytest.raises(ValueError, match=r"The stream is closed\."):
        next(fresh)


@pytest.mark.parametrize("state", [{}, {"next_batch": -1}, {"next_batch": "2"}, None])
def test_a_state_of_something_else(folder, state):
    with pytest.raises(ValueError, match="The state of a stream is"):
        opened(folder).train(BATCH, 3).restore(state)


def test_workers_make_the_same_batches_and_the_state_fits_any_number(folder, reference):
    stream = opened(folder, workers=2).train(BATCH, 3)
    stream.restore({"next_batch": 1})
    batches = [next(stream) for _ in range(5)]
    assert stream.state() == {"next_batch": 6}
    stream.close()
    assert_same_batches(batches, reference[1:])
    assert type(batches[0][0]) is np.ndarray  # no shared memory leaves the stream


def test_the_stream_without_labels_is_another_of_the_same_images(folder, reference):
    stream = opened(folder).unlabeled(BATCH, 3)
    batches = [next(stream) for _ in range(2)]
    state = stream.state()
    batches += [next(stream) for _ in range(3)]
    stream.restore(state)
    assert_same_batches([next(stream) for _ in range(3)], batches[2:])
    stream.close()
    image, label, index = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert (label == -1).all()
    assert (image.dtype, label.dtype, index.dtype) == (np.uint8, np.int32, np.int32)
    for epoch in (0, 1):
        order = index[epoch * EXAMPLES : (epoch + 1) * EXAMPLES]
        np.testing.assert_array_equal(order, subsets.endless_order(EXAMPLES, epoch, 3))
    first = np.concatenate([batch[2] for batch in reference])[:EXAMPLES]
    assert not np.array_equal(first, index[:EXAMPLES])
    crops_of = np.concatenate([batch[0] for batch in reference])[:EXAMPLES][np.argsort(first)]
    others = image[:EXAMPLES][np.argsort(index[:EXAMPLES])]
    assert not (crops_of == others).all((1, 2, 3)).any()


def test_the_stream_without_labels_is_shared_and_of_any_size(folder):
    whole = taken(opened(folder, workers=1).unlabeled(12, 3), 2)
    parts = [taken(opened(folder).unlabeled(12, 3, p, 3), 2) for p in range(3)]
    joined = [
        tuple(map(np.concatenate, zip(*each, strict=True))) for each in zip(*parts, strict=True)
    ]
    assert_same_batches(joined, whole)


def test_the_stream_without_labels_looks_at_none(tmp_path):
    splits = {"train": 4, "test": 3}
    tiny_imagenet.prepare(tmp_path, splits=splits, withheld="train")
    assert len(taken(opened(tmp_path).unlabeled(4, 0), 1)[0][2]) == 4
    with pytest.raises(DataError, match="its label -1 is not from 0 to 3"):
        taken(opened(tmp_path).train(4, 0), 1)


PROGRAM = """
import os, sys, time
from experiments.data.streams import Streams
if __name__ == "__main__":
    stream = Streams("tiny_imagenet", sys.argv[1], image_size=8, workers=1).train(4, 0)
    next(stream)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_workers_end_with_a_killed_program(folder, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    program = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with program:
        assert program.stdout.readline() == b"ready\n"
        program.kill()
        # The pipe closes when the last process that inherited it has ended.
        program.stdout.read()
        for _ in range(300):
            left = _members(program.pid)
            if not left:
                break
            time.sleep(0.1)
        else:
            os.killpg(program.pid, signal.SIGKILL)
    assert not left


def _members(group):
    """The living processes of a group, on systems with /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.parametrize(("batch", "count"), [(4, 1), (7, 1), (4, 4), (8, 2), (30, 3)])
def test_every_test_example_comes_once_and_the_rest_weighs_nothing(folder, batch, count):
    processes = [list(opened(folder).test(batch, p, count)) for p in range(count)]
    assert {len(batches) for batches in processes} == {-(-TEST_EXAMPLES // batch)}
    seen = []
    for step in zip(*processes, strict=True):
        image, label, index, weight = (np.concatenate(part) for part in zip(*step, strict=True))
        assert image.shape == (batch, SIZE, SIZE, 3)
        assert (image.dtype, label.dtype) == (np.uint8, np.int32)
        assert (index.dtype, weight.dtype) == (np.int32, np.float32)
        assert set(weight) <= {0, 1}
        seen.extend(index[weight == 1])
        np.testing.assert_array_equal(label[weight == 1], index[weight == 1] % 4)
        assert not image[weight == 0].any()
    assert seen == list(range(TEST_EXAMPLES))


def test_the_test_images_are_the_centres_whatever_their_size(folder):
    image, _, index, _ = next(iter(opened(folder).test(TEST_EXAMPLES)))
    for pixels, number in zip(image, index, strict=True):
        whole = Image.open(io.BytesIO(tiny_imagenet.jpeg(int(number)))).convert("RGB")
        short = min(whole.size)
        scale = SIZE * 256 / 224 / short
        resized = whole.resize([round(side * scale) for side in whole.size], Image.BILINEAR)
        left, top = ((side - SIZE) // 2 for side in resized.size)
        centre = np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)), np.float64)
        assert np.abs(pixels.mean((0, 1)) - centre.mean((0, 1))).max() < 4


def test_grey_images_become_rgb_and_one_channel_stays_one(folder, tmp_path):
    image, _, _, _ = next(iter(opened(folder).test(TEST_EXAMPLES)))
    np.testing.assert_array_equal(image[4, ..., 0], image[4, ..., 2])
    assert (image[3, ..., 0] != image[3, ..., 2]).any()
    assert opened(folder).shape[0] == SIZE
    assert Streams("digits", tmp_path).shape == (224, 224, 1)  # that of ImageNet
    digits = Streams("digits", tmp_path, image_size=8)
    assert (digits.shape, digits.examples, digits.test_examples) == ((8, 8, 1), 1287, 510)
    assert taken(digits.train(5, 0), 1)[0][0].shape == (5, 8, 8, 1)


def ramp(width, height, kind):
    """Brightness of one channel is the column's number, of another the row's, both divided."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 250 / width, y * 250 / height, 0 * x], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.round(pixels).astype(np.uint8)).save(file, kind, quality=95)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "kind"),
    [(120, 90, "png"), (90, 200, "png"), (1600, 1200, "jpeg")],  # the last is decoded smaller
)
def test_a_crop_is_the_resized_box_in_closed_form(width, height, kind):
    flips = 0
    for seed in range(20):
        left, top, right, bottom = crops.random_box(width, height, np.random.default_rng(seed))
        pixels = crops.random_crop(ramp(width, height, kind), SIZE, 3, np.random.default_rng(seed))
        centre = (np.arange(SIZE) + 0.5) / SIZE
        x = (left + centre * (right - left) - 0.5) * 250 / width
        y = (top + centre * (bottom - top) - 0.5) * 250 / height
        flipped = pixels[0, 0, 0] > pixels[0, -1, 0]
        flips += flipped
        x = x[::-1] if flipped else x
        inner = slice(1, -1)  # at the image's edge, a filter sees only one side
        assert np.abs(pixels[inner, inner, 0] - x[None, inner]).max() < 2.5
        assert np.abs(pixels[inner, inner, 1] - y[inner, None]).max() < 2.5
    assert 4 < flips < 16


def test_boxes_have_the_areas_and_ratios_of_the_recipe():
    rng = np.random.default_rng(0)
    width, height = 500, 400
    boxes = np.array([crops.random_box(width, height, rng) for _ in range(4000)], float)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes == boxes.round()).all()
    area, ratio = w * h / (width * height), w / h
    assert 0.079 < area.min() < 0.1
    assert 0.95 < area.max() <= 1.01
    assert 0.745 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.345
    # Small boxes always fit: there the area is uniform and the ratio's logarithm symmetric.
    small = area < 0.5
    assert abs(area[small].mean() - 0.29) < 4 * 0.42 / np.sqrt(12 * small.sum())
    deviation = np.log(4 / 3) / np.sqrt(3)
    assert abs(np.log(ratio[small]).mean()) < 4 * deviation / np.sqrt(small.sum())


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1000, 30, (480, 0, 520, 30)), (30, 1000, (0, 480, 30, 520)), (1, 1, (0, 0, 1, 1))],
)
def test_of_an_image_too_long_for_any_box_the_centre_is_taken(width, height, expected):
    boxes = {crops.random_box(width, height, np.random.default_rng(s)) for s in range(30)}
    assert expected in boxes


def test_a_test_split_whose_labels_are_withheld_gives_way_to_the_validation_split(tmp_path):
    splits = {"train": 4, "validation": 3, "test": 5}
    tiny_imagenet.prepare(tmp_path / "a", splits=splits, withheld="test")
    assert (opened(tmp_path / "a").test_examples, opened(tmp_path / "a").scored) == (
        3,
        "validation",
    )
    tiny_imagenet.prepare(tmp_path / "b", splits=splits)
    assert opened(tmp_path / "b").test_examples == 5
    tiny_imagenet.prepare(tmp_path / "c", splits={"train": 4, "test": 5}, withheld="test")
    with pytest.raises(DataError, match=r"test labels .* withheld, and it has no validation split"):
        opened(tmp_path / "c")


@pytest.mark.parametrize(
    ("splits", "missing"),
    [({"test": 2}, "no train split"), ({"train": 2, "extra": 2}, "no test and no validation")],
)
def test_a_missing_split(tmp_path, splits, missing):
    tiny_imagenet.prepare(tmp_path, splits=splits)
    with pytest.raises(DataError, match=missing):
        opened(tmp_path)


def test_missing_data(tmp_path):
    with pytest.raises(MissingDataError, match=r"No data set 'tiny_imagenet' in .*: "):
        opened(tmp_path)


def test_other_features(tmp_path):
    features = tiny_imagenet.prepare(tmp_path) / "features.json"
    features.write_text(features.read_text().replace('"label": {', '"writer": {'))
    with pytest.raises(DataError, match="does not have a uint8 'image' of one or three channels"):
        opened(tmp_path)


def test_a_missing_file(tmp_path):
    (tiny_imagenet.prepare(tmp_path) / SHARD).unlink()
    with pytest.raises(DataError, match=f"cannot be read .the file {SHARD} is missing"):
        opened(tmp_path)


def broken(replacement, number=13):
    def encode(i):
        return replacement(tiny_imagenet.jpeg(i)) if i == number else tiny_imagenet.jpeg(i)

    return encode


def message_of_the_first_batch(folder, workers=0):
    stream = opened(folder, workers).train(EXAMPLES, 0)
    with pytest.raises(DataError) as caught:
        next(stream)
    stream.close()
    return str(caught.value)


@pytest.mark.parametrize(
    ("replacement", "reason", "workers"),
    [
        (lambda image: b"text", "it is not an image that Pillow can decode", 0),
        (lambda image: image[:-300], "image file is truncated", 0),
        (lambda image: b"text", "it is not an image that Pillow can decode", 1),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, replacement, reason, workers):
    tiny_imagenet.prepare(tmp_path, encode=broken(replacement))
    message = message_of_the_first_batch(tmp_path, workers)
    start = f"The data set 'tiny_imagenet' in {tmp_path} cannot be read (example 13 of its train "
    assert message.startswith(f"{start}split: {reason}")
    assert "): delete its folder and " in message
    assert "\n" not in message


def test_a_damaged_record_is_named(tmp_path):
    path = tiny_imagenet.prepare(tmp_path) / SHARD
    content = bytearray(path.read_bytes())
    sizes = [len(tiny_imagenet.jpeg(i)) for i in range(8)]
    place = sum(sizes[:7]) + sizes[7] // 2  # there is little but JPEGs in the file
    content[place : place + 8] = bytes(byte ^ 255 for byte in content[place : place + 8])
    path.write_bytes(content)
    assert "(example 7 of its train split: " in message_of_the_first_batch(tmp_path)


def test_a_label_that_is_no_class_is_named(tmp_path):
    features = tiny_imagenet.prepare(tmp_path) / "features.json"
    text = features.read_text()
    assert text.count('"4"') == 1
    features.write_text(text.replace('"4"', '"3"'))
    message = message_of_the_first_batch(tmp_path)
    assert re.search(
        r"\(example (3|7|11|15|19) of its train split: its label 3 is not from 0 to 2", message
    )


def test_a_worker_that_died(folder):
    stream = opened(folder, workers=1).train(BATCH, 0)
    before = set(multiprocessing.active_children())
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - before
    worker.kill()
    with pytest.raises(OSError, match=r"One of the 1 processes that decode images died \(.* -9\)"):
        list(stream)
    stream.close()


@pytest.mark.parametrize(
    ("batch", "process", "count", "message"),
    [
        (10, 0, 4, "A batch of 10 examples cannot be shared evenly by 4 processes"),
        (0, 0, 1, "A batch of 0 examples"),
        (8, 4, 4, "There is no process 4 among 4"),
        (8, -1, 4, "There is no process -1 among 4"),
    ],
)
def test_batches_that_cannot_be_shared(folder, batch, process, count, message):
    for stream in (opened(folder).test, lambda *rest: opened(folder).train(rest[0], 0, *rest[1:])):
        with pytest.raises(ValueError, match=message):
            stream(batch, process, count)


def test_numbers_that_are_too_small(folder):
    with pytest.raises(ValueError, match="are -1 and 0"):
        Streams("tiny_imagenet", folder, image_size=-1, workers=0)
    with pytest.raises(ValueError, match="are 8 and -1"):
        Streams("tiny_imagenet", folder, image_size=8, workers=-1)
    with pytest.raises(ValueError, match="must not be negative, but is -1"):
        opened(folder).train(BATCH, -1)
