"""Classifiers that judge generated images of MNIST's digits, by GAN-test and GAN-train.

    python -m experiments.classify --config=configs/mnist_judge.py --workdir=runs/mnist_judge
    python -m experiments.classify --config=configs/mnist_judge.py:samples --workdir=runs/gan_train

The first is trained on real images only; `experiments.gallery.generated_images` asks it what a
generator's images show (GAN-test) and takes its features ("How Good Is My GAN?", Shmelkov et al.,
2018). The second is trained on the images in the folder "samples", which
`experiments.generate.samples` writes, and on no real ones; its accuracy on real test images, in the
table of perturbations, is GAN-train. `configs/mnist_judge.py:smoke` takes the way of the first on
the embedded digits.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "samples" trains on generated images, "smoke" shrinks it.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "samples")
    config = common.base()
    config.dataset = "mnist"
    config.epochs = 3
    config.learning_rate = 0.002
    config.schedule = "cosine"
    config.losses = ConfigDict({"baseline": "cross_entropy"}, sort_keys=False)
    if arg == "samples":
        config.dataset = "npz:samples"
        config.epochs = 10
        config.perturbations = ConfigDict({"real": "dataset(name='mnist')"})
    if arg == "smoke":
        common.shrink(config, "small_cnn")
    return config
