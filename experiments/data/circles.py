"""Two noisy concentric circles, a class each: points in the plane, with the best accuracy known.

Drawn here rather than by scikit-learn, whose angles are evenly spaced: then the points are no
independent draws, and importing it takes seconds.
"""

import numpy as np

RADII = (1.0, 0.05)  # of class 0 and of class 1
NOISE = 0.3  # standard deviation, in both directions


def draw(count: int, *seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws points, the same for the same seed.

    Args:
      count: how many; the classes are equally likely.
      seed: one or more numbers.

    Returns:
      The points `[count, 2]`, float32, and their classes `[count]`, int32.
    """
    generator = np.random.default_rng(seed)
    label = generator.integers(2, size=count)
    angle = generator.uniform(0, 2 * np.pi, count)
    circle = np.asarray(RADII)[label, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    points = circle + NOISE * generator.normal(size=(count, 2))
    return points.astype(np.float32), label.astype(np.int32)


def best() -> tuple[float, float]:
    """Returns the radius of the best possible boundary, and the share that it classifies right."""
    # The distance from the origin has Rice's distribution. Its density over r, up to a constant:
    r = np.linspace(0, max(RADII) + 8 * NOISE, 20_001)
    density = [np.exp(-(r**2 + c**2) / 2 / NOISE**2) * np.i0(r * c / NOISE**2) for c in RADII]
    outer, inner = (r * d / np.sum(r * d) for d in density)
    return float(r[np.argmax(outer > inner)]), float(np.sum(np.maximum(outer, inner)) / 2)
