"""Table 3 of the Noisy Feature Mixup paper: ImageNet with ResNet-50, under noise at test time.

    python -m experiments.classify --config=configs/nfm/table3.py --workdir=runs/nfm_table3 \
        --config.workers=16

"Noisy Feature Mixup" (Lim et al., 2022). Expected (ROWS, in percent): 76.0 clean and 50.1 under
white noise of 0.5 for the baseline, 77.0 and 60.1 for Noisy Feature Mixup; alpha is 0.2 where the
name has none. It needs TFDS's "imagenet2012" in array_record format and accelerators;
`configs/nfm/table3.py:smoke` takes the same way with the embedded digits as a stream and a small
network, in a minute.

The recipe for ImageNet is not published; this one is that of the networks' own paper (He et al.,
2016), batches of 256 for 100 epochs. The authors' program tests on random crops, this on the
centre.
"""

from ml_collections import ConfigDict

from configs import common
from configs.nfm import common as nfm

LAYERS: tuple[str, ...] = ("input", "stages.0", "stages.1", "stages.2")
NFM = "cross_entropy | noisy_feature_mixup(alpha={}, add=0.1, multiply=0.1, layers={})"
# Clean; white noise of 0.1, 0.25, 0.5; salt and pepper of 0.06, 0.1, 0.15.
ROWS = {
    "baseline": (76.0, 73.5, 67.0, 50.1, 53.2, 50.4, 45.0),
    "manifold mixup": (76.7, 74.9, 70.3, 57.5, 58.1, 54.6, 49.5),
    "NFM": (77.0, 76.5, 72.0, 60.1, 58.3, 56.0, 52.3),
    "NFM, alpha 1": (76.8, 76.2, 71.7, 60.0, 60.9, 58.8, 54.4),
}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "smoke" takes a minute.

    Raises:
      ValueError: an unknown argument.
    """
    nfm.check(arg)
    config = common.base()
    config.dataset = "imagenet2012"
    config.data = "stream"
    config.workers = 8
    config.mean, config.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    config.model = "resnet50"
    config.dtype = "bfloat16"
    config.epochs = 100
    config.batch_size = 256
    # As in the authors' program, biases and BatchNorm decay too (mask='kernels' leaves them out).
    config.optimizer = "add_decayed_weights(weight_decay=1e-4) | sgd(momentum=0.9)"
    config.learning_rate = 0.1
    config.schedule = "step(epochs=(30, 60, 90), factor=0.1)"
    config.selection = "test"
    config.runs_at_once = 1
    config.evaluate_epochs = 1.0
    layers = LAYERS
    if arg == "smoke":
        layers = nfm.shrink(config)
        config.image_size, config.workers, config.train_sizes = 8, 0, (0,)
        config.dtype, config.epochs, config.batch_size = "float32", 2, 64
    mixed = f"cross_entropy | manifold_mixup(alpha=0.2, layers={layers})"
    losses = ("cross_entropy", mixed, NFM.format(0.2, layers), NFM.format(1.0, layers))
    config.losses = ConfigDict(dict(zip(ROWS, losses, strict=True)), sort_keys=False)
    perturbations = {
        "white noise": "white_noise(sigma=(0.1, 0.25, 0.5))",
        "salt and pepper": "salt_and_pepper(amount=(0.06, 0.1, 0.15))",
    }
    config.perturbations = ConfigDict(perturbations, sort_keys=False)
    nfm.publish(config, "Lim et al., Table 3", ROWS, seeds=1)
    config.published_for = ("imagenet2012", "resnet50")
    return config
