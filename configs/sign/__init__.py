"""Signed Input Regularization."""
