"""`python -m experiments.benchmark`: measures and prints all tables, see tables.py."""

from experiments.benchmark import tables
from experiments.runs import commands

commands.run(tables.main)
