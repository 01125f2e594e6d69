"""What every use of TFDS here shares: the user's data folder, and quiet."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow_datasets as tfds


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder of prepared data sets: `data_dir`, or else TFDS's own default.

    That is the environment variable `TFDS_DATA_DIR`, or else `~/tensorflow_datasets`.
    """
    return Path(data_dir or tfds.core.constants.get_default_data_dir()).expanduser().absolute()


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back TFDS's log records below ERROR (such as its advice to install OpenCV)."""

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or "tensorflow_datasets" not in record.pathname

    logger = logging.getLogger("absl")  # the one that TFDS writes to
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
