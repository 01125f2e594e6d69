"""Searches for the numbers of a loss, or for a policy of augmentation, by held-out images.

    python -m experiments.search --config=configs/sign/search.py --workdir=runs/search

The config has one loss with names in braces and says in `config.search.spaces` what may stand
there. Trials are trained as `experiments.classify` trains them, as many together as
`config.runs_at_once` allows, those of one structure in one compiled program. The work folder gets
`found.txt`, the best loss as an expression that any config takes, `history.json` and `history.png`,
and `search.db`, the trials themselves. Killed or stopped, and started again with the same command,
a search goes on and loses no trial; with a larger `--config.search.trials` it goes on too.
"""

from __future__ import annotations

import importlib.util
import json

from absl import flags

from experiments import ConfigError
from experiments.runs import commands, config_flag


def main() -> None:
    """Runs the search of the flags; bad input ends it with one sentence and exit code 2."""
    with commands.ends():
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError("A search needs optuna: pip install -e '.[search]'.")
        from experiments.search import found
        from experiments.search.searching import search

        paths = search(flags.FLAGS.config, flags.FLAGS.workdir)
    expression = paths["expression"].read_text(encoding="utf-8").strip()
    history = json.loads(paths["history"].read_bytes())
    print(found.summary(history, expression))
    print("Written to " + ", ".join(map(str, paths.values())))


if __name__ == "__main__":
    config_flag.define()
    flags.DEFINE_string("workdir", "runs/search", "Folder for the results.")
    commands.run(main)
