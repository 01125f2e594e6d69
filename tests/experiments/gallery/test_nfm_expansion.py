"""NFM's loss against its expansion: the expectation by quadrature, the rates, the command."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import regjax as rj
from experiments.gallery import nfm_expansion


def test_the_expected_loss_is_the_mean_over_draws():
    """By random numbers in NumPy, of a linear model, at an epsilon at which all terms matter."""
    rng, epsilon, draws = np.random.default_rng(0), 0.3, 200_000
    kernel, x, label = rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), np.eye(3)[[0, 1, 2, 0]]
    forward = rj.from_function(lambda params, x: x @ params, jnp.asarray(kernel, jnp.float32))
    batch = rj.Batch(jnp.asarray(x, jnp.float32), jnp.asarray(label, jnp.float32))
    expected = nfm_expansion.expected_loss(forward, batch, "input", jnp.float32(epsilon))

    i, j = rng.integers(4, size=(2, draws))
    mixed, soft = ((1 - epsilon) * a[i] + epsilon * a[j] for a in (x, label))
    u, z = rng.uniform(-1, 1, (draws, 2)), rng.normal(size=(draws, 2))
    logits = ((1 + epsilon * u) * mixed + epsilon * z) @ kernel
    losses = np.log(np.exp(logits).sum(1)) - (soft * logits).sum(1)
    error = losses.std() / np.sqrt(draws)
    assert error < 0.003
    assert abs(losses.mean() - expected) < 4 * error


@pytest.fixture
def small(monkeypatch):
    """Fewer steps, examples and layers."""
    monkeypatch.setattr(nfm_expansion, "STEPS", 100)
    monkeypatch.setattr(nfm_expansion, "EXAMPLES", 6)
    monkeypatch.setattr(nfm_expansion, "LAYERS", ("input", "hidden2"))


def test_the_command(small, tmp_path, capsys):
    output = tmp_path / "figure.png"
    nfm_expansion.main(str(output))
    said = capsys.readouterr().out
    assert f"Written to {output}" in said
    numbers = {line[:22].strip(): line[22:].split() for line in said.splitlines()[:-1]}
    assert list(numbers["epsilon 0.1"]) == ["input", "hidden2"]
    for name, order in (("remainder's rate", 3), ("with first order only", 2)):
        assert [float(v) for v in numbers[name]] == pytest.approx([order] * 2, abs=0.2)
    # A linear layer follows, which has no Hessian; the loss is the same wherever it is expanded.
    for name in ("mixing, hessian", "add, hessian", "multiply, hessian"):
        assert float(numbers[name][0]) != 0
        assert float(numbers[name][1]) == 0
    assert len(set(numbers["loss"])) == 1
    with Image.open(output) as image:
        assert image.size[0] == 1800
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("output", "says"),
    [("missing/figure.png", "there is no folder .*missing"), ("figure", "figure must end with")],
)
def test_wrong_outputs_are_one_sentence(output, says, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        nfm_expansion.main(str(tmp_path / output))
    said = capsys.readouterr().err
    assert re.search(says, said)
    assert said.count("\n") == 1
