"""Image data: TFDS sources read whole, the embedded digits, balanced subsets, normalisation."""
