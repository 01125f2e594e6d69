"""The entries of a config that say what is trained on; a part of the table in entries.py."""

from experiments.runs.entry_kinds import Entry

ENTRIES = (
    Entry(
        "dataset",
        "digits",
        'A TFDS data set, or images of your own: "folder:PATH", "npz:PATH", "huggingface:NAME", '
        '"cityscapes:PATH".',
        shared=True,
        needed=True,
        shown=True,
    ),
    Entry("data_dir", "", 'Folder of the data sets; "" for TFDS_DATA_DIR.', own=True),
    Entry(
        "data",
        "memory",
        '"memory" keeps the data set on the device, "stream" reads it from the disk.',
        known=("memory", "stream"),
        shared=True,
    ),
    Entry(
        "image_size",
        0,
        "Height and width of the images; 0: as they are stored in memory and with masks, 224 for "
        "other streams.",
        shared=True,
    ),
    Entry(
        "resize",
        "centre",
        'What is brought to that size: "centre", 224/256 of the shorter side, or the "whole" '
        "image, whatever becomes of its shape; in streams without crops and flips.",
        known=("centre", "whole"),
        shared=True,
    ),
    Entry("image_key", "image", "The key of the images in a data set that has keys.", shared=True),
    Entry("label_key", "label", "The key of the classes there.", shared=True),
    Entry(
        "classes",
        (),
        'Names of the classes that are kept, such as ("0", "1"); () for all.',
        shared=True,
    ),
    Entry("positive_class", "", 'The class told from all others; "" for none.', shared=True),
    Entry(
        "test_share",
        0.2,
        "Share of each class that is scored, where a folder or an archive has no test images.",
        shared=True,
    ),
    Entry("split_seed", 0, "The seed that draws them.", shared=True),
    Entry(
        "broken",
        "refuse",
        "What becomes of image files of your own that cannot be decoded: "
        '"refuse", or "skip" and count them.',
        known=("refuse", "skip"),
        shared=True,
    ),
    Entry("workers", 0, "Processes that read a stream.", own=True),
    Entry("mean", (), "Subtracted from pixels in [0, 1], by channel.", shared=True),
    Entry("std", (), "What they are divided by then, by channel.", shared=True),
    Entry(
        "whiten",
        "",
        "What is done to images then, before all stages of a loss, in the words of "
        'experiments/data/whitening.py: "gcn | zca(epsilon=0.1)"; "" for nothing.',
        shared=True,
    ),
    Entry("train_sizes", (0,), "Images per class to train on; 0 for all.", needed=True),
    Entry(
        "validation_per_class",
        0,
        "Training images per class that are held out, to choose strengths by; 0: none, but the "
        "data set's own validation split.",
        shared=True,
    ),
    Entry(
        "validation_included",
        False,
        "Whether the images of config.train_sizes include those, and so many fewer are trained on.",
        shared=True,
    ),
    Entry(
        "class_weights",
        "",
        'What an image counts by its class: "balanced", "median" for pixels of masks, or a number '
        'for each class; "" for 1.',
        kind="weights",
        shared=True,
    ),
    Entry(
        "sampling",
        "",
        '"balanced" draws all classes equally often; "" each image once an epoch.',
        known=("", "balanced"),
        shared=True,
    ),
    Entry(
        "mixture",
        {},
        'Other data sets, each with its share of every batch; "{seed}" in a name stands for the '
        "seed of a run.",
        shared=True,
    ),
    Entry(
        "joined",
        (),
        'Other data sets whose training images are trained on too, each once an epoch; "{seed}" '
        "in a name stands for the seed of a run.",
        shared=True,
    ),
    Entry("equal_updates", False, "Whether epochs have as many steps as without.", shared=True),
    Entry(
        "unlabeled_batch_size",
        0,
        "Images without labels that come with each batch; 0 for none.",
        shared=True,
    ),
    Entry(
        "unlabeled_includes_labeled",
        False,
        "Whether the labelled images are among those without labels too.",
        shared=True,
    ),
)
