"""From a config to runs, and from a folder back."""
