"""Mixing of examples, in the image or in hidden layers, and its expansion."""
