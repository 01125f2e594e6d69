"""Pairs regjax with Flax models and TFDS data; one module a task, `python -m experiments.TASK`."""
