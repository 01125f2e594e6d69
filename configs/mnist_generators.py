"""Conditional generators of MNIST's digits, small enough for one CPU core.

    python -m experiments.generate --config=configs/mnist_generators.py --workdir=runs/generators
    python -m experiments.generate.samples runs/generators --method=cgan --output=samples

A conditional GAN and one with an auxiliary classifier ("Conditional Image Synthesis with Auxiliary
Classifier GANs", Odena et al., 2017), with DCGAN's networks, narrow ones, and DCGAN's Adam; what is
evaluated is the moving average of the generator. No paper has these numbers; ours are in
configs/README.md. `:per_class` trains WGANs of their own for the digits 0 and 1, with a penalty in
place of clipped weights and two steps of the critic for five, since so few steps move no generator
by the program's. `:smoke` takes the same way on scikit-learn's digits, with two objectives. The
full form takes eight minutes of one core, `:per_class` two.
"""

from ml_collections import ConfigDict

from configs import common

EACH_CLASS = "wgan(penalty=10.0, critic_steps=2, each_class=True)"
TWO = {"wgan": "wgan(clip=0.01, many=5)", "acgan": "acgan()"}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "per_class" trains WGANs of two classes, "smoke" shrinks it.

    Raises:
      ValueError: if `arg` is none of "", "per_class" and "smoke".
    """
    common.check(arg, "per_class")
    config = common.base()
    config.dataset = "mnist"
    config.model = "dcgan(width=16, latents=64)"
    config.epochs = 15
    config.batch_size = 100
    config.optimizer = "adam(b1=0.5)"
    config.learning_rate = 4e-4
    config.average = 0.999
    config.runs_at_once = 1
    config.selection = "test"
    config.losses = ConfigDict({"cgan": "cgan()", "acgan": "acgan()"}, sort_keys=False)
    if arg == "per_class":
        config.classes = ("0", "1")
        config.epochs = 20
        config.average = 0.99
        config.losses = ConfigDict({"wgan": EACH_CLASS}, sort_keys=False)
    if arg == "smoke":
        common.shrink(config, "dcgan(width=4, latents=8)")
        config.learning_rate = 1e-3
        config.average = 0.9
        config.losses = ConfigDict(TWO, sort_keys=False)
    return config
