"""Adversarial examples: the smallest change, or the worst one in a ball, that misleads a network.

All are pure functions of a `Forward` and a `Batch`, with numbers that may be traced: one compiled
program serves every epsilon. BatchNorm uses its running averages and dropout is off, so examples
are independent. Bounds and distances are in units of `batch.image`; a network that was trained on
normalised images is attacked in pixels by `forward.after(normalise)`. It is given float32 at least:
one that takes bfloat16 alone goes behind `after(lambda x: x.astype("bfloat16"))`.

What is maximised is the cross entropy in a form whose gradient does not vanish where the network is
sure (`threat.log_odds`), and what counts is the margin: positive just where the class is wrong.
"""

from regjax.attacks.ascent import fgsm, mim, pgd
from regjax.attacks.auto_pgd import apgd
from regjax.attacks.carlini_wagner import cw_l2
from regjax.attacks.decoupled import ddn
from regjax.attacks.ensemble import autoattack
from regjax.attacks.random_search import square

__all__ = ["apgd", "autoattack", "cw_l2", "ddn", "fgsm", "mim", "pgd", "square"]
