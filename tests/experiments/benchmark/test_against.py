"""PyTorch's form of networks and losses equals ours, so that what is timed is the same.

Covers `pytorch/networks.py`, `pytorch/losses.py` and `timed.py` too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import regjax as rj
from experiments import ConfigError
from experiments.benchmark import against, isda, tables
from experiments.benchmark.timing import random_data, random_task
from experiments.benchmark.transforms import Setting

SHAPE = (8, 8, 3)


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(against.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs PyTorch: pip install -e '.\[experiments,torch\]'"
    ):
        next(against.costs(quick=True))


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra 'torch' is not installed")


@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18(width=4)"])
@pytest.mark.parametrize("name", ["plain", "double_backprop", "jacobian"])
def test_values_and_gradients_equal_ours(torch, model, name):
    from experiments.benchmark.pytorch import losses, networks

    task = random_task(model, SHAPE)
    forward, loss = task.build(jax.random.key(0)), rj.parse(against.LOSSES[name])
    data = jax.device_get(random_data(6, SHAPE))
    image, one_hot = data["image"].astype(np.float32) / 255, np.eye(10)[data["label"]]
    batch = rj.Batch(jnp.asarray(image), jnp.float32(one_hot))

    def objective(params):
        key, here = jax.random.key(1), forward.replace(params=params)
        return rj.total(loss.apply(loss.init(forward, batch), here, batch, key)[0], batch)

    value, slopes = jax.value_and_grad(objective)(forward.params)
    network = networks.create(model, SHAPE, 10)
    networks.put(network, forward.params)
    theirs = getattr(losses, name)(
        network,
        torch.from_numpy(image.transpose(0, 3, 1, 2)),
        torch.from_numpy(np.array(data["label"])).long(),
    )
    theirs.backward()
    np.testing.assert_allclose(theirs.item(), value, rtol=1e-4)
    moved = networks.create(model, SHAPE, 10)
    networks.put(moved, slopes)
    for (at, each), expected in zip(network.named_parameters(), moved.parameters(), strict=True):
        atol = 2e-4 * float(expected.detach().abs().max()) + 1e-7
        np.testing.assert_allclose(each.grad, expected.detach(), atol=atol, err_msg=at)


def test_isda_equals_ours_over_two_steps(torch):
    from experiments.benchmark.pytorch import timed

    ours = isda.Program(isda.Case(40, 3, 4, "full"))
    theirs = timed.IsdaStep(*ours.given)
    for _ in range(2):
        value, ((features), params) = ours.step()
        expected = [value, features, params["kernel"].T, params["bias"]]
        for found, each in zip(theirs.step(), expected, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), each, rtol=1e-3, atol=1e-6)


def test_mixing_is_of_images_and_labels_by_the_share_drawn(torch):
    from experiments.benchmark.pytorch import losses

    image, label = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    torch.manual_seed(3)
    share = torch.distributions.Beta(1.0, 1.0).sample().item()
    partner = torch.randperm(5)
    for name, more in (
        ("mixup", {}),
        ("noisy_feature_mixup", {"layers": ("input",), "add": 0.0, "multiply": 0.0}),
    ):
        torch.manual_seed(3)
        seen = []

        def network(x, at={}, seen=seen):  # noqa: B006
            seen.append(at["input"](x) if at else x)
            return seen[0].flatten(1)[:, :3]

        found = getattr(losses, name)(network, image, label, **more)
        mixed = share * image + (1 - share) * image[partner]
        torch.testing.assert_close(seen[0], mixed)
        log_p = mixed.flatten(1)[:, :3].log_softmax(-1)
        each = share * log_p[range(5), label] + (1 - share) * log_p[range(5), label[partner]]
        torch.testing.assert_close(found, -each.mean())


def test_noise_is_of_the_levels_drawn(torch):
    from experiments.benchmark.pytorch import losses

    image, seen = torch.ones(4, 3, 100, 100), []

    def network(x, at):
        seen.append(at["input"](x))
        return seen[0].mean((2, 3))

    torch.manual_seed(0)
    torch.distributions.Beta(1.0, 1.0).sample(), torch.randperm(4)
    added, multiplied = torch.distributions.Beta(2.0, 5.0).sample((2,)).tolist()
    torch.manual_seed(0)
    losses.noisy_feature_mixup(
        network, image, torch.tensor([0, 1, 2, 0]), layers=("input",), add=0.4, multiply=0.2
    )
    variance = (0.2 * multiplied) ** 2 / 3 + (0.4 * added) ** 2
    np.testing.assert_allclose(seen[0].var().item(), variance, rtol=0.02)


def test_steps_train(torch):
    setting = Setting(SHAPE, 8, 3, 1, model="small_cnn")
    for name in against.LOSSES:
        assert against._torch_step(setting, name, "channels last")() > 0


@pytest.mark.slow
def test_both_tables_have_a_row_for_each_case(torch, monkeypatch):
    monkeypatch.setattr(against, "MODELS", {"small_cnn": against.MODELS["small_cnn"]})
    monkeypatch.setattr(against, "LOSSES", {k: against.LOSSES[k] for k in ("plain", "jacobian")})
    result = {name: rows for part in against.costs(quick=True) for name, rows in part.items()}
    plain, jacobian = result["small_cnn_against_torch"]["rows"]
    assert (plain["loss"], jacobian["loss"]) == ("plain", "jacobian")
    assert float(plain["compiled_ms"]) > 0
    assert not jacobian["compiled_ms"]
    for name, each in result.items():
        assert all(row["ratio"] > 0 for row in each["rows"])
        assert tables.text(name, each).count("\n|") == 1 + len(each["rows"])
