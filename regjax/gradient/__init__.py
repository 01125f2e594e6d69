"""Penalties on derivatives with respect to the input, and their mathematics."""
