r"""Tables 1, 3 and 5 of the SIGN paper as far as two CPU cores can say something.

    python -m experiments.classify --config=configs/sign/quick.py --workdir=runs/sign_quick/plain

Classical augmentation and mixup with BasicCNN, 3 seeds, on 200 images a class of the lossy
"cifar10_jpeg". SIGN trains on copies that the first of these networks has made, the first command
below for every seed, for as many epochs and for as many steps:

    python -m experiments.sign runs/sign_quick/plain --method=classical --seed=0 \
        --normalize=rms --step=0.2 --output=runs/sign_quick_copies/plain0
    python -m experiments.classify --config=configs/sign/quick.py:sign \
        --workdir=runs/sign_quick/sign
    python -m experiments.classify --config=configs/sign/quick.py:sign_equal_updates \
        --workdir=runs/sign_quick/sign_equal_updates

They are tested on all test images, by class, on Tiny ImageNet's 643 images, without 50 pixels and
under noise, and for their calibration. `:aleatoric` and so on train a second head as in Table 2.
What is published is of another network and of all images, and no number to compare with: what can
be compared is the order of the methods. `:smoke` takes the same way with the embedded digits in a
minute.
"""

from ml_collections import ConfigDict

from configs.sign import common

MODEL = "basic_cnn"
CELLS = ("", "aleatoric")


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config of a form; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    cell, form = common.form(arg, CELLS)
    config = common.start(MODEL, epochs=25)
    config.dataset, config.train_sizes = "cifar10_jpeg", (200,)
    config.batch_size = 32
    config.evaluate_epochs, config.runs_at_once = 0.0, 1
    common.measure_unsure(config)
    config.columns = ("accuracy", "nll", "ece", "unsure_count")
    base = "cross_entropy"
    if cell == "aleatoric":
        base, config.uncertainty = "aleatoric(samples=10)", "aleatoric(samples=100)"
        config.model = f"two_headed(model='{MODEL}', outputs=10)"
    losses = {"SIGN": base} if form else common.methods(base)
    tested = {common.OTHER: common.OUT_OF_DISTRIBUTION, **common.DISTURBED}
    config.perturbations = ConfigDict(tested, sort_keys=False)
    common.fill_in(config, losses, form, f"runs/sign_quick_copies/{cell or 'plain'}")
    if arg == "smoke":
        common.shrink(config)
    return config
