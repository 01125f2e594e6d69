"""Finished runs of a small comparison, made up by hand, and its config."""

from ml_collections import ConfigDict

from experiments.report import main_table
from experiments.report.differences import gather
from experiments.report.scoring import Scoring
from experiments.runs.selection import select, summarize

ENVIRONMENT = {"platform": "cpu", "jax": "0.10.2"}


def run(method="db", size=50, strength=0.1, seed=0, test=0.9, validation=0.9, **others):
    return {
        "method": method,
        "loss": f"cross_entropy | {method}({strength})",
        "train_size": size,
        "strength": strength,
        "seed": seed,
        "test_accuracy": test,
        "validation_accuracy": validation,
        "train_loss": 0.1,
        "test_nll": 0.3,
        "test_ece": 0.02,
        "steps": 7,
        **others,
    }


def runs(tests, **fields):
    return [run(seed=seed, test=test, **fields) for seed, test in enumerate(tests)]


def make_config(**changes):
    config = ConfigDict(sort_keys=False)
    config.dataset = "mnist"
    config.model = "small_cnn"
    losses = {"db": "cross_entropy | l2(weight={strength})", "baseline": "cross_entropy"}
    config.losses = ConfigDict(losses, sort_keys=False)
    config.strengths = {"db": (0.1, 1.0)}
    config.train_sizes = (50, 100)
    config.seeds = 2
    config.epochs = 3
    config.batch_size = 128
    config.optimizer = "adam"
    config.learning_rate = 0.001
    config.validation_per_class = 5
    config.selection = "validation"
    config.runs_at_once = 16
    paper = {"db": {"50": (92.273, 0.49)}, "baseline": {"50": (90.195, 0.45)}}
    config.published = ConfigDict(paper, sort_keys=False)
    config.published_source = "Thumwanit, thesis, Table 2"
    config.published_seeds = 10
    config.published_for = ("mnist", "small_cnn")
    config.update(changes)
    return config


def comparison():
    """All runs of `make_config`: the strength 1.0 is better for db, on both kinds of images."""
    return [
        *(r for size in (50, 100) for r in runs([0.90, 0.91], size=size, strength=0.1)),
        *(
            r
            for size in (50, 100)
            for r in runs([0.93, 0.94], size=size, strength=1.0, validation=0.92)
        ),
        *(
            r
            for size in (50, 100)
            for r in runs([0.89, 0.90], method="baseline", size=size, strength=None)
        ),
    ]


def table_of(records, config, show=None, selection=None):
    """All of table.md."""
    show = show or Scoring()
    chosen = select(records, selection or config.selection, show.score)
    compared = gather(config, chosen, records, show)
    rows = summarize(records, show.score)
    return main_table.markdown(rows, chosen, config, ENVIRONMENT, show, compared)
