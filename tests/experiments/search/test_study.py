"""The search: what it finds of a planted optimum, and what is left of it when it is killed."""

import collections
import sqlite3

import pytest

import regjax as rj
from experiments import ConfigError

pytest.importorskip("optuna")

from experiments.search import spaces
from experiments.search.study import Study, Trial, best, kept, run

LOSS = "cross_entropy | l2(weight={weight}) | noise_injection(sigma={sigma})"
SPACES = {
    "weight": "log(low=1e-5, high=1.0)",
    "sigma": "uniform(low=0, high=1, start=0.5)",
}
NUMBERS = spaces.template({"a": LOSS}, SPACES)[1]
STARTED = spaces.template({"a": LOSS}, SPACES | {"weight": "log(low=1e-5, high=1, start=0.1)"})[1]
POLICY = spaces.template({"a": "cross_entropy | policy(sub={sub})"}, {"sub": "policy(subs=2)"})[1]


GOOD = ("shear", "crop", "noise")


class Killed(BaseException):
    """Stands for a signal that nothing can catch."""


def planted(trials):
    """Of a policy: the better the more of its operations are three, of magnitudes about 0.3."""

    def score(trial):
        pairs = rj.parse(trial.expression).stages[1].arguments["sub"]
        each = [operation for pair in pairs for operation in (pair[:2], pair[2:])]
        return sum(1 - abs(m - 0.3) for name, m in each if name in GOOD) / 4

    return [score(trial) for trial in trials]


@pytest.mark.slow
def test_a_planted_policy_is_found_faster_than_at_random():
    """In eight searches of ten or more: the trials until three operations of four are near."""

    def first(sampler, seed):
        study = Study(POLICY, sampler=sampler, seed=seed)
        done = run(study, planted, trials=80, at_once=4)
        return next((trial.number for trial in done if trial.value >= 0.55), 80)

    assert sum(first("tpe", seed) < first("random", seed) for seed in range(10)) >= 8


def weighed(trials):
    return [float(trial.expression.split("weight=")[1].split(")")[0]) for trial in trials]


def test_a_search_that_is_killed_again_and_again_loses_no_trial(tmp_path):
    """Killed while trials are trained: these come again, the same, and all others once."""
    trained = collections.Counter()

    def dies_often(trials):
        assert len(trials) <= 3
        trained.update(trials)
        if max(trained[trial] for trial in trials) == 1 and trials[0].number % 2 == 0:
            raise Killed
        return weighed(trials)

    kills = 0
    while True:
        study = Study(STARTED, seed=1, path=tmp_path / "search.db")
        try:
            done = run(study, dies_often, trials=9, at_once=3)
            break
        except Killed:
            kills += 1
    assert kills >= 2
    assert [trial.number for trial in done] == list(range(9))
    assert {trial._replace(value=None) for trial in done} == set(trained)
    assert "weight=0.1) | noise_injection(sigma=0.5)" in done[0].expression
    whole = run(Study(STARTED, seed=1), weighed, trials=9, at_once=3)
    assert done == whole
    assert best(done).value == max(weighed(done))


@pytest.mark.slow
def test_a_search_that_is_done_goes_on_where_more_trials_are_asked_for(tmp_path):
    path = tmp_path / "search.db"
    first = run(Study(NUMBERS, path=path), weighed, trials=3, at_once=2)
    again = run(Study(NUMBERS, path=path), pytest.fail, trials=3, at_once=2)
    assert again == first
    more = run(Study(NUMBERS, path=path), weighed, trials=5, at_once=2)
    assert more[:3] == first
    assert len(more) == 5


def test_a_trial_that_was_killed_while_it_was_asked_for_is_given_up(tmp_path, monkeypatch):
    """It has no loss yet; the start is tried all the same."""
    from optuna.trial import Trial as Asked

    path, suggest = tmp_path / "search.db", Asked._suggest

    def dies(self, name, distribution):
        if name == "sigma":
            raise Killed
        return suggest(self, name, distribution)

    with monkeypatch.context() as patch:
        patch.setattr(Asked, "_suggest", dies)
        with pytest.raises(Killed):
            Study(STARTED, path=path).ask(1)
    study = Study(STARTED, path=path)
    assert study.left() == []
    done = run(study, weighed, trials=2, at_once=1)
    assert "weight=0.1) | noise_injection(sigma=0.5)" in done[0].expression
    assert [trial.number for trial in done] == [1, 2]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param({"seed": 1}, "another seed", marks=pytest.mark.slow),
        pytest.param({"sampler": "random"}, "another sampler", marks=pytest.mark.slow),
        ({"template": STARTED}, "another spaces"),
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path, other, said):
    Study(NUMBERS, path=tmp_path / "search.db")
    given = {"template": NUMBERS, "seed": 0, "sampler": "tpe"} | other
    with pytest.raises(ConfigError, match=f"holds a search of {said} .*choose another --workdir"):
        Study(given.pop("template"), **given, path=tmp_path / "search.db")


def test_any_name_of_a_folder_will_do(tmp_path):
    folder = tmp_path / "50% or less? #1"
    folder.mkdir()
    Study(NUMBERS, path=folder / "search.db").ask(1)
    assert [path.name for path in folder.iterdir()] == ["search.db"]
    assert len(Study(NUMBERS, path=folder / "search.db").left()) == 1


@pytest.mark.parametrize("content", ["damaged " * 1000, None])
def test_a_file_that_is_none_is_one_sentence(content, tmp_path):
    path = tmp_path / "search.db"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(ConfigError, match=r"search.db cannot be used \(.*\): delete it, and the"):
        Study(NUMBERS, path=path)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_no_trial_is_lost(tmp_path, monkeypatch):
    """SQLite itself says so, as soon as its file may not grow."""
    path, connect, told = tmp_path / "search.db", sqlite3.connect, []

    def filling(*given, **options):
        connection = connect(*given, **options)
        if len(told) >= 2:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    def seen(done):
        told[:] = done

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", filling)
        with pytest.raises(OSError, match=r"to .*disk is full\): make room"), kept(tmp_path):
            run(Study(STARTED, seed=1, path=path), weighed, 200, at_once=1, seen=seen)
    after = Study(STARTED, seed=1, path=path)
    assert len(told) >= 2
    assert after.done()[: len(told)] == told
    assert len(run(after, weighed, trials=len(told) + 2, at_once=1)) == len(told) + 2


def test_of_equals_the_first_is_the_best():
    trials = [Trial(0, "a", 0.5), Trial(1, "b", 0.75), Trial(2, "c", 0.75)]
    assert best(trials).number == 1
