"""Notebooks in percent format, for Jupyter (through jupytext), VS Code, or plain Python."""
