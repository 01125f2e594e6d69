"""The table of the differences to the baseline, and its words."""

import math

from tiny_compared import comparison, make_config, runs, table_of


def part(text, i):
    return text.split("\n\n")[i]


def several(seeds=3):
    """Differences of 2, 1 and 3 points, and of exactly 1; b is told from the baseline."""
    plain, values = [0.80, 0.82, 0.83], {"a": [0.82, 0.83, 0.86], "b": [0.90, 0.921, 0.931]}
    records = runs(plain[:seeds], method="baseline", strength=None)
    for method, tests in values.items():
        records += runs(tests[:seeds], method=method, strength=None)
    losses = {"a": "x | flip", "b": "x | crop", "baseline": "x"}
    return records, losses


def config_of(losses, **changes):
    config = make_config(train_sizes=(50,), seeds=3, published_for=(), **changes)
    config.losses, config.strengths = losses, {}
    return config


def test_differences_with_their_intervals_and_stars():
    records, losses = several()
    text = table_of(records, config_of(losses))
    half = 4.302652729911275 / math.sqrt(3)
    assert part(text, 2) == (
        "Test accuracy minus that of baseline, in percentage points: mean of the differences at "
        "the same seeds, and its 95 % interval (Student's t). *: not 0 at 5 %, with Holm's "
        "correction for the methods of a training size."
    )
    assert part(text, 3).splitlines()[2:] == [
        f"| a | +2.00 [{2 - half:+.2f}, {2 + half:+.2f}] |",
        "| b | +10.07 [+9.92, +10.21] * |",
    ]
    assert (
        "in bold the best and all that cannot be told from it (paired t-tests, 5 %, Holm's" in text
    )


def test_with_two_methods_nothing_is_said_of_holm():
    records, losses = several()
    del losses["a"]
    text = table_of([r for r in records if r["method"] != "a"], config_of(losses))
    assert "*: not 0 at 5 %." in text
    assert "Holm" not in text


def test_seeds_that_are_missing_and_two_samples_are_said():
    records, losses = several()
    missing = [r for r in records if (r["method"], r["seed"]) != ("b", 2)]
    assert "] * (n=2) |" in part(table_of(missing, config_of(losses)), 3)
    apart = [r | {"seed": r["seed"] + 3 * (r["method"] == "b")} for r in records]
    assert "] * (n=3, unpaired) |" in part(table_of(apart, config_of(losses)), 3)


def test_one_seed_has_differences_without_intervals():
    records, losses = several(1)
    config = config_of(losses)
    config.seeds = 1
    text = table_of(records, config)
    assert "| a | +2.00 |\n| b | +10.00 |" in text
    assert "(an interval takes two that differ)" in text
    assert "over n seeds, the best in bold. " in text


def test_strengths_that_were_chosen_on_the_scored_images_are_said_to_be():
    records = comparison()
    for i, record in enumerate(records):
        record["test_accuracy"] += 0.001 * i * record["seed"]
    seen = "Strengths were chosen on these images, which no interval knows."
    assert seen in table_of(records, make_config(selection="test"))
    assert seen not in table_of(records, make_config())


def test_without_differences_a_sentence_says_why():
    records, losses = several()
    plain = [r for r in records if r["method"] == "baseline"]
    only = config_of({"baseline": "x"})
    sentence = "There are no differences: baseline is the only method."
    assert part(table_of(plain, only), 2) == sentence
    varied = config_of({"a": "x | l2(weight={strength})", "b": "x | l2(weight={strength})"})
    text = table_of([r for r in records if r["method"] != "baseline"], varied)
    assert part(text, 2).startswith("There are no differences to a baseline: no method of the")
    for others in (plain, [r | {"train_loss": None} for r in plain] + records[3:], records[3:]):
        sentence = "There are no differences to baseline: it and another method must have finished"
        assert part(table_of(others, config_of(losses)), 2).startswith(sentence)


def test_a_method_that_diverged_has_a_dash_and_is_not_corrected_for():
    records, losses = several()
    records = [r | {"train_loss": None} if r["method"] == "a" else r for r in records]
    text = table_of(records, config_of(losses))
    assert "| a | - |" in part(text, 3)
    assert "| a | diverged (3 of 3) |" in part(text, 1)
