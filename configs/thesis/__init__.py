"""The tables of "Study of Noise Injection and Gradient Regularization" (Thumwanit, 2020)."""
