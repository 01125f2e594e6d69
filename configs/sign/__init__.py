"""The experiments of "Signed Input Regularization" (SIGN)."""
