"""Figures of the papers, notebooks, pictures."""
