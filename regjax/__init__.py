"""Regularizers for image classifiers in JAX: every one a function from loss to loss."""

from importlib import metadata as _metadata

from regjax import (
    attacks,
    consistency,
    corruptions,
    gradient,
    losses,
    metrics,
    mixing,
    noise,
    parameters,
    semantic,
)
from regjax.augment.affine import affine
from regjax.augment.automatic import auto_augment, rand_augment
from regjax.augment.cutout import cutout
from regjax.augment.moves import random_crop, random_flip
from regjax.augment.policy import policy
from regjax.augment.scaled_crop import scaled_crop
from regjax.consistency.adversarial import vat
from regjax.consistency.ensembling import temporal_ensembling
from regjax.consistency.teacher import mean_teacher, taught
from regjax.consistency.views import entropy, pi_model
from regjax.core.batch import Batch, example_keys
from regjax.core.expression import parse
from regjax.core.forward import Forward, Tap
from regjax.core.from_function import from_function
from regjax.core.loss import Loss, LossState, View
from regjax.core.outputs import Branch, Head, Outputs
from regjax.core.point import Point
from regjax.core.result import Result, total
from regjax.core.second import Second
from regjax.core.stages import Number, Range, base, penalty, wrapper
from regjax.gradient import traces
from regjax.gradient.penalties import double_backprop, frobenius, hessian_frobenius, jacobian
from regjax.losses.aleatoric import aleatoric
from regjax.losses.center import center
from regjax.losses.cross_entropy import cross_entropy
from regjax.losses.distribution_net import distribution_net
from regjax.losses.labels import class_weights, disturb_label, label_smoothing
from regjax.losses.large_margin import large_margin
from regjax.losses.robust import focal, generalized_cross_entropy
from regjax.mixing import expansion
from regjax.mixing.features import manifold_mixup, noisy_feature_mixup
from regjax.mixing.images import cutmix, mixup, noisy_mixup
from regjax.mixing.puzzlemix import puzzlemix
from regjax.noise import feature_noise, noise_injection
from regjax.parameters import l1, l2
from regjax.semantic import statistics
from regjax.semantic.consistency import semantic_consistency
from regjax.semantic.explicit import expected_loss, explicit_augmentation
from regjax.semantic.isda import isda
from regjax.semantic.learned import learned_augmentation
from regjax.signing.sign import sign
from regjax.signing.signed import Signed, signed

try:
    __version__ = _metadata.version("regjax")  # of pyproject.toml
except _metadata.PackageNotFoundError:  # a copy of the source that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Batch",
    "Branch",
    "Forward",
    "Head",
    "Loss",
    "LossState",
    "Number",
    "Outputs",
    "Point",
    "Range",
    "Result",
    "Second",
    "Signed",
    "Tap",
    "View",
    "affine",
    "aleatoric",
    "attacks",
    "auto_augment",
    "base",
    "center",
    "class_weights",
    "consistency",
    "corruptions",
    "cross_entropy",
    "cutmix",
    "cutout",
    "distribution_net",
    "disturb_label",
    "double_backprop",
    "entropy",
    "example_keys",
    "expansion",
    "expected_loss",
    "explicit_augmentation",
    "feature_noise",
    "focal",
    "frobenius",
    "from_function",
    "generalized_cross_entropy",
    "gradient",
    "hessian_frobenius",
    "isda",
    "jacobian",
    "l1",
    "l2",
    "label_smoothing",
    "large_margin",
    "learned_augmentation",
    "losses",
    "manifold_mixup",
    "mean_teacher",
    "metrics",
    "mixing",
    "mixup",
    "noise",
    "noise_injection",
    "noisy_feature_mixup",
    "noisy_mixup",
    "parameters",
    "parse",
    "penalty",
    "pi_model",
    "policy",
    "puzzlemix",
    "rand_augment",
    "random_crop",
    "random_flip",
    "scaled_crop",
    "semantic",
    "semantic_consistency",
    "sign",
    "signed",
    "statistics",
    "taught",
    "temporal_ensembling",
    "total",
    "traces",
    "vat",
    "wrapper",
]
