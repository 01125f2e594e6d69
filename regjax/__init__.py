"""Regularizers for image classifiers in JAX: every one a function from loss to loss."""

from regjax import (
    gradient,
    losses,
    metrics,
    noise,
    semantic,
    statistics,
    traces,
    weights,
)
from regjax.base import Loss, LossState, Point, Result, total
from regjax.batch import Batch, example_keys
from regjax.explicit import expected_loss, explicit_augmentation, learned_augmentation
from regjax.expression import parse
from regjax.forward import Forward, Head, Outputs, from_function
from regjax.gradient import double_backprop, frobenius, hessian_frobenius, jacobian
from regjax.isda import isda
from regjax.losses import cross_entropy, label_smoothing
from regjax.noise import noise_injection
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
    "base",
    "cross_entropy",
    "double_backprop",
    "example_keys",
    "expected_loss",
    "explicit_augmentation",
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
    "metrics",
    "noise",
    "noise_injection",
    "parse",
    "penalty",
    "semantic",
    "statistics",
    "total",
    "traces",
    "weights",
    "wrapper",
]
