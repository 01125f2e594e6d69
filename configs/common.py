"""The entries of every config, with the values that most of them keep."""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Returns a config without losses, which other configs fill in and change."""
    config = ConfigDict(sort_keys=False)
    # What is trained on: a TFDS data set; images per class, 0 for all; and, to choose strengths by,
    # images per class that are held out. "memory" keeps the data set on the device, "stream" reads
    # it from the disk with so many worker processes and crops the images to one size.
    config.dataset = "digits"
    config.data_dir = ""
    config.data = "memory"
    config.image_size = 224
    config.workers = 0
    config.mean = ()
    config.std = ()
    config.train_sizes = (0,)
    config.validation_per_class = 0
    # The network, and what it computes in: "float32" or "bfloat16".
    config.model = "small_cnn"
    config.dtype = "float32"
    # The training. Optimizer and schedule are expressions of experiments/optimizers.py. Gradients
    # are taken in `accumulate` parts of a batch and scaled down to `clip_norm` (0: not); what is
    # evaluated is an average of the parameters with that decay (0: the last ones). `growing` names
    # numbers of the losses, such as "isda.strength", that grow linearly from 0 to what they are.
    config.seeds = 1
    config.epochs = 30
    config.batch_size = 128
    config.accumulate = 1
    config.optimizer = "adam"
    config.learning_rate = 0.001
    config.schedule = "constant"
    config.clip_norm = 0.0
    config.average = 0.0
    config.growing = ()
    # How a strength is chosen: "validation" or "test".
    config.selection = "validation"
    # The record: epochs between evaluations (0: only at the end), steps between checkpoints, how
    # many of the last are kept.
    config.evaluate_epochs = 0.0
    config.checkpoint_steps = 1000
    config.keep_checkpoints = 2
    # The devices. So many runs are trained together, each on one device ("vmap", "map", "sharded",
    # or "" for the platform's default). With 1 a run is spread over all devices, by "jit",
    # "shard_map", "pmap" or "" for the one that fits, its parameters split over `fsdp` of them.
    # `distributed` is "auto" or "HOST:PORT,INDEX,COUNT" where several processes take part.
    config.runs_at_once = 16
    config.strategy = ""
    config.parallelism = ""
    config.fsdp = 1
    config.distributed = ""
    # What is compared; what the trained networks are tested against, by name an expression of
    # experiments/perturbations.py; and the published numbers to stand beside.
    config.losses = ConfigDict()
    config.strengths = ConfigDict()
    config.perturbations = ConfigDict()
    config.published = ConfigDict()
    config.published_robustness = ConfigDict()
    config.published_source = ""
    config.published_seeds = 0
    config.published_for = ()
    return config
