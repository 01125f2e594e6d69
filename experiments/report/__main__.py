"""`python -m experiments.report`: one page about any number of run folders, see page.py."""

from absl import flags

from experiments.report import page
from experiments.runs import commands

flags.DEFINE_string("output", "report.html", "The page to write.")
commands.run(page.main, arguments=True)
