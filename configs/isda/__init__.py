"""The experiments of "Regularizing Deep Networks with Semantic Data Augmentation" (ISDA)."""
