"""From the files of a prepared data set to arrays."""

from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from experiments.data import crops, masks
from experiments.data.dataset import DataError, Split, check_one_size, check_split
from experiments.data.decoding import Pixels
from experiments.data.items import Options
from experiments.data.masks import Masks
from experiments.data.prepared import has_classes, undecoded


def check_features(builder: tfds.core.DatasetBuilder, label: str, image: str = "image") -> None:
    """Looks whether a data set has the images and the label, as in `read`.

    Raises:
      DataError: if it has not.
    """
    features = builder.info.features
    if image not in features or not _is_image(features[image]):
        wanted = f"a uint8 {image!r}, or one of float32"
    elif masks.of_feature(builder, label) is None and not has_classes(builder, label):
        wanted = f"a class {label!r}, or a mask of classes"
    else:
        return
    raise DataError(
        f"The data set in {builder.data_path} does not have {wanted}, but "
        f"{' '.join(repr(features).split())}: name others in config.image_key and "
        "config.label_key."
    )


def _is_image(feature: tfds.features.FeatureConnector) -> bool:
    if isinstance(feature, tfds.features.Image):
        return feature.np_dtype in (np.uint8, np.float32)  # (.dtype imports TensorFlow)
    tensor = isinstance(feature, tfds.features.Tensor)
    return tensor and feature.np_dtype == np.float32 and len(feature.shape) == 3


def _is_as_stored(feature: tfds.features.FeatureConnector, image_size: int) -> bool:
    """Whether images are read as they are: without an image size, or where all have it already."""
    return not image_size or tuple(feature.shape[:2]) == (image_size, image_size)


def read(
    builder: tfds.core.DatasetBuilder,
    split: str,
    label: str,
    image_size: int,
    options: Options = Options(),  # noqa: B008 - it cannot be changed
) -> Split:
    """Reads a split whole.

    Args:
      builder: of an opened data set that has passed `check_features`.
      split: its name.
      label: a feature, of one class for each image or for each pixel.
      image_size: of the crops that are taken of uint8 images, as a stream takes them of test
        images; 0 to read them as they are stored, which is also done where all have that size.
      options: with the key of the images, and how they are resized.

    Returns:
      The split, as in `dataset.Dataset`.

    Raises:
      DataError: if images or labels are not such as can be trained on.
    """
    features = builder.info.features
    source = builder.as_data_source(split=split, decoders=undecoded(features))
    # All at once: item by item takes four times as long.
    examples = source.__getitems__(range(len(source)))
    where = f"the {split} split of {builder.data_path}"
    feature, resize = features[options.image], options.resize
    dense = masks.of_feature(builder, label)
    size = 0 if _is_as_stored(feature, image_size) else image_size
    images = [example[options.image] for example in examples]
    labels = [example[label] for example in examples]
    found = {
        "image": _images(where, images, feature.shape[-1], size, resize),
        "label": (
            np.array(labels, np.int32)
            if dense is None
            else _masks(where, images, labels, dense, size, resize)
        ),
    }
    check_split(where, found, len(class_names(builder, label)))
    return found


def class_names(builder: tfds.core.DatasetBuilder, label: str) -> tuple[str, ...]:
    """A name for each class of a data set that has passed `check_features`."""
    dense = masks.of_feature(builder, label)
    return tuple(builder.info.features[label].names) if dense is None else dense.class_names


def shape(
    builder: tfds.core.DatasetBuilder, split: str, image_size: int, image: str = "image"
) -> tuple[int, ...]:
    """Returns the shape of an image that `read` reads."""
    features = builder.info.features
    stored = tuple(features[image].shape)
    if not _is_as_stored(features[image], image_size):
        return image_size, image_size, stored[-1]
    if None not in stored:
        return stored
    source = builder.as_data_source(split=split, decoders=undecoded(features))
    return *_size(source.__getitems__([0])[0][image]), stored[-1]


def _images(
    where: str, images: Sequence[Pixels], channels: int, size: int, resize: str
) -> np.ndarray:
    _check_sizes(where, images, size)

    def decode(image: Pixels) -> np.ndarray:
        if isinstance(image, np.ndarray):
            return image
        resized = crops.RESIZE[resize]
        return resized(image, size, channels) if size else crops.whole(image, channels)

    first = decode(images[0])
    found = np.empty((len(images), *first.shape), first.dtype)  # no second copy of all of them
    for i, image in enumerate(images):
        found[i] = decode(image)
    return found


def _check_sizes(where: str, images: Sequence[Pixels], size: int) -> None:
    if size and isinstance(images[0], np.ndarray):
        raise DataError(
            f"The images in {where} are floats, which are not resized: store them as "
            f"{size} x {size}, or choose another config.image_size."
        )
    if not size:
        check_one_size(where, {_size(image) for image in images})


def _masks(
    where: str,
    images: Sequence[Pixels],
    encoded: Sequence[bytes],
    dense: Masks,
    size: int,
    resize: str,
) -> np.ndarray:
    for i, (image, mask) in enumerate(zip(images, encoded, strict=True)):
        if _size(image) != _size(mask):
            (height, width), (h, w) = _size(image), _size(mask)
            raise DataError(
                f"Example {i} in {where} has an image of {height} x {width} pixels, but a mask of "
                f"{h} x {w}: they must be of one size."
            )
    return np.stack([dense.decoded(mask, size, resize) for mask in encoded])


def _size(image: Pixels) -> tuple[int, int]:
    """Height and width."""
    return crops.size_of(image) if isinstance(image, bytes) else (len(image), image.shape[1])
