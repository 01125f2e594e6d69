"""Trains generators under many losses and compares them in a table, plots and a web page.

    python -m experiments.generate --config=configs/mnist_generators.py --workdir=runs/generators

The config is one of all experiments: `config.model` names a generator with its critic,
`"dcgan(width=64, latents=100)"`, and `config.losses` what they play for, `"wgan(clip=0.01)"`,
`"cgan()"`, `"acgan()"`, `"infogan(weight=1.0)"`. The page and TensorBoard show ten samples of each
class, which are kept in the work folder as `pictures/METHOD.png`. `experiments.generate.samples`
writes what a generator makes as a data set.
"""

from experiments import comparison
from experiments.generate import GENERATION

if __name__ == "__main__":
    comparison.door(GENERATION)
