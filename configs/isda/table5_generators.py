r"""The generators of Table 5's protocol in small, of the very images that its classifiers see.

    python -m experiments.generate --config=configs/isda/table5_generators.py:mnist \
        --workdir=runs/table5/generators/mnist

trains a WGAN for each class, a CGAN, an ACGAN and an infoGAN on 50 images a class, three of each:
that of a seed sees the images that the classifier of this seed sees. `:cifar10` are those of
"cifar10_jpeg" at half its height and width. What they make is written by

    for method in wgan cgan acgan infogan; do for seed in 0 1 2; do
        python -m experiments.generate.samples runs/table5/generators/mnist --method=$method \
            --seed=$seed --output=runs/table5/samples/mnist_${method}_$seed
    done; done

All have DCGAN's networks, of a quarter of their width, and its Adam, the WGANs a penalty in place
of clipped weights and two steps of the critic for five; what makes images is the moving average.
1,500 steps of 100 images are few, where ACGAN's paper takes 50,000: but by then the networks have
seen every image 300 times. A data set takes about ten minutes of one CPU core. `:smoke` takes
the same way with the embedded digits in a minute or two.
"""

from ml_collections import ConfigDict

from configs import common
from configs.isda import table5_small

METHODS = {
    "wgan": "wgan(penalty=10.0, critic_steps=2, each_class=True)",
    "cgan": "cgan()",
    "acgan": "acgan()",
    "infogan": "infogan()",
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a data set, by default "mnist"; "smoke" takes a minute or two.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, *table5_small.DATASETS)
    seen = table5_small.get_config(arg)
    config = common.base()
    for name in ("dataset", "image_size", "train_sizes", "seeds"):
        config[name] = seen[name]
    config.model = "dcgan(width=16, latents=100)"
    config.epochs, config.batch_size = 300, 100
    config.optimizer, config.learning_rate = "adam(b1=0.5)", 4e-4
    config.average = 0.99
    config.runs_at_once = 1
    config.selection = "test"
    config.losses = ConfigDict(METHODS, sort_keys=False)
    if arg == "smoke":
        common.shrink(config, "dcgan(width=4, latents=8)")
    return config
