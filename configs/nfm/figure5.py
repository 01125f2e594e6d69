"""Figure 5 of the Noisy Feature Mixup paper: accuracy under adversarial perturbations of any size.

    python -m experiments.classify --config=configs/nfm/figure5.py --workdir=runs/nfm_table1

"Noisy Feature Mixup" (Lim et al., 2022): the networks of Table 1, attacked by PGD. In the folder of
`configs/nfm/table1.py`, as here, those are taken that have been trained, and tested only. Tables
in it are then about the attacks, until Table 1's command brings its own back, in seconds. The other
half of the figure is `configs/nfm/figure5.py:cifar100` in the folder of Table 2. The figure is not
printed as numbers: what it shows is that Noisy Feature Mixup loses accuracy most slowly.

"PGD, half of the range" may change every pixel by 0.5: what it leaves above chance is accuracy that
the attack does not see how to take, and the report says so. `:quick` and `:smoke` as in Table 1;
they attack 500 and 100 of the test images.
"""

from ml_collections import ConfigDict

from configs.nfm import common, table1, table2

# From 0 on, what is left of the same images without an attack.
EPSILONS = tuple(round(pixels / 255, 6) for pixels in (0, 0.5, 1, 2, 4, 8))


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config; "cifar100" is the right half, "quick" for two CPU cores, "smoke" tiny.

    Raises:
      ValueError: an unknown argument.
    """
    common.check(arg, "cifar100", "quick")
    config = table2.get_config() if arg == "cifar100" else table1.get_config(arg)
    size, steps = {"smoke": (100, 2), "quick": (500, 10)}.get(arg, (0, 20))
    # Of two restarts the second climbs the margin, which networks that are never sure need.
    rest = f"steps={steps}, restarts=2, examples={size})"
    attacks = {
        "PGD": f"pgd(epsilon={EPSILONS}, {rest}",
        "PGD, half of the range": f"pgd(epsilon=(0.5,), {rest}",
    }
    config.perturbations = ConfigDict(attacks, sort_keys=False)
    config.published_robustness = ConfigDict()
    return config
