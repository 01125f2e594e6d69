"""All entries of a config: what each means, its default, and what else is known about it.

What follows from this table: `configs.common.base()`, the checks in entry_checks.py, which entries
a finished run depends on, in which ones processes may differ, what a report needs and shows.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from experiments.runs import data_entries
from experiments.runs.entry_kinds import KINDS, Entry
from experiments.runs.entry_values import growing, held_out, image_size

ENTRIES = (
    Entry(
        "imports",
        (),
        "Modules of your own by name, imported first, whose decorators register what is named "
        "below.",
    ),
    *data_entries.ENTRIES,
    # The network.
    Entry(
        "model",
        "small_cnn",
        'A network of experiments/models, with arguments or without: "preact_resnet18(width=16)".',
        shared=True,
        needed=True,
        shown=True,
    ),
    Entry(
        "init_from",
        "",
        "A work folder whose network's layers it starts from where they fit, with a method behind "
        'where there are several: "runs/imagenet:ISDA".',
        shared=True,
    ),
    Entry(
        "dtype",
        "float32",
        "What the network computes in.",
        known=("float32", "bfloat16"),
        shared=True,
    ),
    # The training.
    Entry("seeds", 1, "Runs of each method, size and strength.", least=1, needed=True),
    Entry("epochs", 30, "Passes over the images.", least=1, shared=True, shown=True),
    Entry("batch_size", 128, "Images a step.", least=1, shared=True, shown=True),
    Entry(
        "accumulate",
        1,
        "Equal parts of a batch whose gradients are taken one after the other, to save memory.",
        least=1,
        shared=True,
    ),
    Entry(
        "optimizer",
        "adam",
        "optax transformations, as experiments/training/optimizers.py reads them.",
        shared=True,
        shown=True,
    ),
    Entry("learning_rate", 0.001, "The largest one.", shared=True, shown=True),
    Entry(
        "schedule",
        "constant",
        "How the learning rate changes, as experiments/training/optimizers.py reads it.",
        shared=True,
    ),
    Entry("clip_norm", 0.0, "The largest norm of a gradient; 0 for any.", shared=True),
    Entry(
        "average",
        0.0,
        "Decay of the average of the parameters that is evaluated; 0 for the last ones.",
        shared=True,
    ),
    Entry(
        "evaluate_teacher",
        False,
        "Whether the teacher of a loss with mean_teacher is evaluated in place of the network.",
        shared=True,
    ),
    Entry(
        "growing",
        {},
        'How numbers of the losses grow from 0 to what they are: {"isda": {"strength": "linear"}}.',
        kind="curves",
        shared=True,
    ),
    # How strengths are chosen, and what is measured.
    Entry(
        "selection",
        "validation",
        'The images that a strength is chosen by: "validation", "test", or "retrain", by held-out '
        "training images, whereupon it is trained again on all of them.",
        known=("validation", "test", "retrain"),
        needed=True,
    ),
    Entry(
        "score_epochs",
        1,
        "Last epochs whose scores are averaged, each evaluated at its end; 1 or 0: the last one.",
        shared=True,
    ),
    Entry("metrics", (), "Metrics to compute, by name; () for the task's usual ones."),
    Entry("columns", (), "Metrics that are columns of the table, beside the main score."),
    Entry(
        "uncertainty",
        "",
        'Answers by samples, see answers.py; "" for logits.',
        shared=True,
        special=True,
    ),
    Entry(
        "views",
        "",
        "Windows, scales and flips over which the logits of pixels are averaged, see views.py, as "
        '"windows(size=769) | flips"; "" for one pass over the whole image.',
        shared=True,
        special=True,
    ),
    # The record.
    Entry(
        "evaluate_epochs",
        0.0,
        "Epochs between evaluations, each saved; 0: at the end, and where it costs little up to "
        "nine times before, for the curves only.",
    ),
    Entry("checkpoint_steps", 1000, "Steps between checkpoints; 0: only at evaluations."),
    Entry("keep_checkpoints", 2, "How many of the last ones are kept.", least=1),
    # The devices.
    Entry(
        "runs_at_once",
        16,
        "Runs that are trained together, each on one device; 1 spreads a run over all devices.",
        least=1,
    ),
    Entry(
        "strategy",
        "",
        'How runs are trained together; "" for the platform\'s default.',
        known=("", "vmap", "map", "sharded"),
    ),
    Entry(
        "parallelism",
        "",
        'How one run is spread over all devices; "" for the way that fits.',
        known=("", "jit", "shard_map", "pmap"),
    ),
    Entry("fsdp", 1, "Devices that one run's parameters are split over.", least=1),
    Entry(
        "distributed",
        "",
        '"auto" or "HOST:PORT,INDEX,COUNT" where several processes take part.',
        own=True,
    ),
    Entry(
        "distributed_timeout",
        300,
        "Seconds that a process waits for the others to start.",
        least=1,
        own=True,
    ),
    # What is compared.
    Entry("losses", {}, "The methods, each a loss expression by name.", needed=True),
    Entry(
        "strengths",
        {},
        "By method the numbers that stand for {strength} in its loss, such as (0.1, 1.0).",
        needed=True,
    ),
    Entry(
        "perturbations",
        {},
        "What trained networks are tested against, by name an expression of "
        "experiments/evaluation/perturbations.py.",
    ),
    # The published numbers to stand beside.
    Entry(
        "published",
        {},
        "By method and training size mean accuracy and standard deviation (or None), in percent.",
    ),
    Entry(
        "published_robustness",
        {},
        "By method and perturbation the accuracy in percent at each level, or None.",
    ),
    Entry("published_source", "", "Where they were published."),
    Entry("published_seeds", 0, "Over how many seeds."),
    Entry("published_for", (), "The data set and the network that they are of."),
)
SHARED = tuple(entry.name for entry in ENTRIES if entry.shared)
OWN = tuple(entry.name for entry in ENTRIES if entry.own)
SHOWN = tuple(entry.name for entry in ENTRIES if entry.shown)
NEEDED = tuple(entry for entry in ENTRIES if entry.needed)


def defaults() -> dict[str, Any]:
    """A config of the defaults, in the order of the table."""
    return {entry.name: copy.copy(entry.default) for entry in ENTRIES}


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a work folder, with the defaults of entries that came after it."""
    # Until there were mixtures, no image in memory was resized, whatever this entry said.
    older = "mixture" not in stored and stored.get("data", "memory") == "memory"
    return {**defaults(), **stored, **({"image_size": 0} if older else {})}


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished run depends on, in one form: as JSON has it, of older versions or not."""
    whole = complete(config)
    values = {name: whole[name] for name in SHARED}
    values["image_size"] = image_size(whole)
    values["validation_per_class"] = held_out(whole)
    values["score_epochs"] = max(1, whole["score_epochs"])
    if isinstance(whole["growing"], KINDS["curves"][0]):
        values["growing"] = growing(whole["growing"])
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def changed(stored: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The names of entries in which a work folder's config is of other runs than this one."""
    before, now = shared(stored), shared(config)
    return [name for name in SHARED if before[name] != now[name]]
