"""Canny's edges against OpenCV's, distances against a search over all pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import LIQUID, from_hex
from support import assert_same

from regjax.corruptions import edges

# The edges between 50 and 150 that OpenCV 5.0 finds in LIQUID, three of them only because they
# touch stronger ones.
EDGES = """
    .#..#......#....
    .#..#......#....
    #..##......#####
    #.##...........#
    #..#..........#.
    #.##...........#
    #...#...........
    .....#..........
    .....#..........
    ###.##..........
    ..#..#......#...
    ..#..#.....#.#..
"""


canny = jax.jit(edges.canny)


def found(text: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in text.split()])


def test_edges_are_opencvs() -> None:
    image = jnp.asarray(from_hex(LIQUID), jnp.float32)
    assert_same(canny(image, 50, 150), found(EDGES))
    strong = np.asarray(canny(image, 150, 150))
    assert (strong <= found(EDGES)).all()
    assert strong.sum() == 38


@pytest.mark.parametrize("farthest", [3, 20])
def test_distance_is_the_shortest_way(farthest: int) -> None:
    """In closed form: knight's moves, then straight or diagonal ones."""
    edge = np.zeros((20, 23), bool)
    edge[[2, 17, 9], [3, 1, 20]] = True
    row, column = np.indices(edge.shape)
    ways = []
    for y, x in np.argwhere(edge):
        long, short = np.sort([abs(row - y), abs(column - x)], 0)[::-1]
        straight = (long - 2 * short) + 2.1969 * short
        diagonal = 2.1969 * (long - short) + 1.4 * (2 * short - long)
        ways.append(np.where(long >= 2 * short, straight, diagonal))
    expected = np.minimum(np.min(ways, 0), farthest)
    np.testing.assert_allclose(edges.edge_distance(jnp.asarray(edge), farthest), expected, 1e-6)


def test_without_edges_all_is_far() -> None:
    assert_same(edges.edge_distance(jnp.zeros((4, 5), bool)), np.full((4, 5), 20, np.float32))
    assert not canny(jnp.full((12, 16), 200.0), 50, 150).any()
