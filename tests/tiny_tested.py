"""Scores under perturbations of two methods, made up by hand, and their config."""

from experiments.report.perturbation_scores import gather
from experiments.report.published import published
from experiments.runs.selection import select

WHITE = "white_noise(sigma=(0.1, 0.3))"
SALT = "salt_and_pepper(amount=0.04, examples=100)"
FOG, SNOW = "corruption(name='fog', severity=(1, 5))", "corruption(name='snow', severity=(1, 3, 5))"
PGD, HALF = "pgd(epsilon=(0.1, 0.2))", "pgd(epsilon=(0.1, 0.5))"
# Seeds 0 and 1 of each method at each level, in percent.
ACCURACY = {
    ("NFM", WHITE): ((80.0, 60.0), (84.0, 50.0)),
    ("plain", WHITE): ((70.0, 64.0), (72.0, 60.0)),
    ("NFM", SALT): ((40.0,), (50.0,)),
    ("plain", SALT): ((45.0,), (45.0,)),
    ("NFM", FOG): ((80.0, 40.0), (90.0, 50.0)),
    ("plain", FOG): ((70.0, 30.0), (70.0, 50.0)),
    ("NFM", SNOW): ((60.0, 30.0, 30.0), (60.0, 50.0, 10.0)),
    ("plain", SNOW): ((90.0, 60.0, 30.0), (90.0, 60.0, 30.0)),
}


def run(method, seed, size=0, strength=None, **scores):
    names = {"method": method, "loss": f"loss of {method} {strength}", "train_size": size}
    test = {"NFM": 0.92, "plain": 0.9}[method] + 0.02 * seed
    rest = {"train_loss": 0.1, "test_nll": 0.3 + 0.1 * seed, "test_ece": 0.02 + 0.01 * seed}
    rest |= {"test_accuracy": test, "validation_accuracy": test, "class_accuracy": [0.9] * 10}
    return names | {"strength": strength, "seed": seed} | rest | scores


def scored(method, seed, text, accuracy, size=0, strength=None, **scores):
    one = run(method, seed, size, strength)
    names = {n: one[n] for n in ("method", "loss", "train_size", "strength", "seed")}
    accuracy = [a / 100 for a in accuracy]
    ece = [0.1 + 0.2 * seed for _ in accuracy]
    return names | {
        "text": text,
        "levels": list(range(len(accuracy))),
        "accuracy": accuracy,
        "nll": [1.0 for _ in accuracy],
        "ece": ece,
        **scores,
    }


RUNS = [run(method, seed) for method in ("NFM", "plain") for seed in (0, 1)]
TESTED = [
    scored(method, seed, text, accuracy)
    for (method, text), each in ACCURACY.items()
    for seed, accuracy in enumerate(each)
]


def make_config(perturbations=None, **changes):
    return {
        "dataset": "cifar10",
        "model": "preact",
        "losses": {"NFM": "cross_entropy", "plain": "cross_entropy"},
        "strengths": {},
        "train_sizes": [0],
        "seeds": 2,
        "epochs": 3,
        "batch_size": 128,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "validation_per_class": 0,
        "selection": "test",
        "perturbations": perturbations
        or {"white noise": WHITE, "a|b": SALT, "fog": FOG, "snow": SNOW},
        "published": {"NFM": {"0": (95.4, None)}, "plain": {"0": (94.6, None)}},
        "published_robustness": {"NFM": {"white noise": (83.0, None)}},
        "published_source": "A paper",
        "published_seeds": 5,
        "published_for": ("cifar10", "preact"),
        **changes,
    }


def found_of(config, records=TESTED, runs=RUNS):
    chosen = select(runs, config["selection"])
    return gather(config, chosen, records, published(config)), chosen


def half(nfm, plain, text=HALF, size=0):
    both = (("NFM", nfm), ("plain", plain))
    return [scored(m, s, text, (90.0, a), size) for m, a in both for s in (0, 1)]
