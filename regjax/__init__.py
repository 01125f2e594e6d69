"""Regularizers for image classifiers in JAX: every one a function from loss to loss."""

from regjax import (
    attacks,
    corruptions,
    expansion,
    gradient,
    losses,
    metrics,
    mixing,
    noise,
    semantic,
    statistics,
    traces,
    weights,
)
from regjax.augment import cutout, random_crop, random_flip
from regjax.base import Loss, LossState, Point, Result, total
from regjax.batch import Batch, example_keys
from regjax.explicit import expected_loss, explicit_augmentation, learned_augmentation
from regjax.expression import parse
from regjax.feature_mixing import manifold_mixup, noisy_feature_mixup
from regjax.forward import Forward, Head, Outputs, from_function
from regjax.gradient import double_backprop, frobenius, hessian_frobenius, jacobian
from regjax.isda import isda
from regjax.losses import cross_entropy, label_smoothing
from regjax.mixing import cutmix, mixup, noisy_mixup
from regjax.noise import disturb_label, feature_noise, noise_injection
from regjax.puzzlemix import puzzlemix
from regjax.stages import Number, base, penalty, wrapper
from regjax.weights import l1, l2

__all__ = [
    "Batch",
    "Forward",
    "Head",
    "Loss",
    "LossState",
    "Number",
    "Outputs",
    "Point",
    "Result",
    "attacks",
    "base",
    "corruptions",
    "cross_entropy",
    "cutmix",
    "cutout",
    "disturb_label",
    "double_backprop",
    "example_keys",
    "expansion",
    "expected_loss",
    "explicit_augmentation",
    "feature_noise",
    "frobenius",
    "from_function",
    "gradient",
    "hessian_frobenius",
    "isda",
    "jacobian",
    "l1",
    "l2",
    "label_smoothing",
    "learned_augmentation",
    "losses",
    "manifold_mixup",
    "metrics",
    "mixing",
    "mixup",
    "noise",
    "noise_injection",
    "noisy_feature_mixup",
    "noisy_mixup",
    "parse",
    "penalty",
    "puzzlemix",
    "random_crop",
    "random_flip",
    "semantic",
    "statistics",
    "total",
    "traces",
    "weights",
    "wrapper",
]
