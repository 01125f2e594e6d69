"""The experiments of "Noisy Feature Mixup" (Lim et al., 2022)."""
