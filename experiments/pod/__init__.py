"""A training step planned for a pod of TPUs on a machine without one, see `__main__.py`."""
