"""Work folders of comparisons, made up by hand."""

import json

from experiments.runs import folder as run_folder


def make_config(**changes):
    return {
        "dataset": "digits",
        "model": "small_cnn",
        "losses": {"db": "cross_entropy | l2(weight={strength})", "baseline": "cross_entropy"},
        "strengths": {"db": [0.1, 1.0]},
        "train_sizes": [5],
        "seeds": 2,
        "epochs": 3,
        "learning_rate": 0.01,
        "selection": "validation",
        "published": {"db": {"5": [90.0, 0.5]}},
        "published_for": ["digits", "small_cnn"],
        "published_source": "A paper",
        "published_seeds": 10,
        **changes,
    }


def record(run, test, **others):
    fields = {name: getattr(run, name) for name in ("method", "loss", "train_size", "strength")}
    scores = {"train_loss": 0.1, "test_nll": 0.3, "test_ece": 0.02, "validation_accuracy": test}
    return fields | {"seed": run.seed} | scores | {"test_accuracy": test} | others


def accuracy(run):
    """Strength 1.0 is the better one; seed 1 is a point better than seed 0."""
    return {0.1: 0.85, 1.0: 0.92, None: 0.88}[run.strength] + 0.01 * run.seed


def make(folder, config=None, keep=lambda run: True, **others):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or make_config()))
    runs = [run for run in run_folder.read(folder).planned if keep(run)]
    lines = [json.dumps(record(run, accuracy(run), **others)) + "\n" for run in runs]
    (folder / "runs.jsonl").write_text("".join(lines))
    return folder


def line(run, step, kind="train", **numbers):
    fields = {name: getattr(run, name) for name in ("method", "train_size", "strength", "seed")}
    return {"kind": kind, "step": step, "epoch": step / 10, **fields, **numbers}


def add_metrics(folder, lines, group="g0", end=""):
    path = folder / "training" / group / "metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


def planned(folder, **fields):
    return [
        run
        for run in run_folder.read(folder).planned
        if all(getattr(run, name) == value for name, value in fields.items())
    ]


WHITE, HALF = "white_noise(sigma=(0.1, 0.3))", "pgd(epsilon=(0.1, 0.5))"


def scored(run, text, *accuracy, **others):
    fields = {name: getattr(run, name) for name in ("method", "loss", "train_size", "strength")}
    series = {name: [0.1] * len(accuracy) for name in ("levels", "nll", "ece")}
    return fields | {"seed": run.seed, "text": text, "accuracy": accuracy} | series | others


def make_robust(folder, perturbations, *lines, end="", **changes):
    """A folder whose db at strength 1.0, which is chosen, and baseline were tested."""
    paper = {"db": {"white <i>": [83.0, None]}}
    config = make_config(perturbations=perturbations, published_robustness=paper, **changes)
    make(folder, config, class_accuracy=[0.9] * 10)
    planned = run_folder.read(folder).planned
    records = [line(run) for run in planned if run.strength != 0.1 for line in lines]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "robustness.jsonl").write_text(text + end)
    return folder


def white(run):
    return scored(run, WHITE, 0.8 + 0.02 * run.seed, {"db": 0.5}.get(run.method, 0.3))


def fog(run):
    return scored(run, "corruption(name='fog', severity=(1, 2))", 0.9, 0.7)


def half(run):
    return scored(run, HALF, 0.9, 0.0 if run.method == "db" else 0.4)
