"""One table of every public stage, and the rules that each of them keeps.

A stage of regjax that is missing from `TABLE` fails `test_every_stage_is_in_the_table`. The
networks are tiny, and every test of a row shares one jitted `evaluate`, so that a row costs few
compilations.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import support
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads
from support import (
    CLASSES,
    CONV_SHAPE,
    ConvNet,
    assert_close,
    assert_finite,
    assert_same,
    tanh_forward,
    tanh_params,
)

import regjax as rj
import regjax.flax
from regjax.core.keys import named_key
from regjax.core.ranges import kinds
from regjax.core.stages import REGISTRY

# Sample arguments of every public stage; several where an option changes what is computed.
LAYERS = "layers=('input', 'hidden')"
TABLE = {
    "affine": ["affine(shear=5, zoom=0.1, fill=(0.5,))"],
    "aleatoric": ["aleatoric(samples=2)"],
    "auto_augment": ["auto_augment(policy='svhn', as_in_program=True)"],
    "center": ["center(weight=0.1, rate=0.5)"],
    "class_weights": ["class_weights(weights=(0.5, 2.0, 1.0))"],
    "cross_entropy": ["cross_entropy"],
    "cutmix": ["cutmix(alpha=1.0)"],
    "cutout": ["cutout(size=2)"],
    "distribution_net": ["distribution_net(samples=2, sampled=0.5, uncertainty=0.1)"],
    "disturb_label": ["disturb_label(rate=0.3)"],
    "double_backprop": ["double_backprop(weight=0.1)"],
    "entropy": ["entropy(weight=0.1)", "entropy(weight=0.1, balance=4.0)"],
    "explicit_augmentation": ["explicit_augmentation(strength=0.5, samples=2)"],
    "feature_noise": [f"feature_noise(add=0.1, multiply=0.1, {LAYERS})"],
    "focal": ["focal(gamma=1.5, alpha=0.5)"],
    "frobenius": ["frobenius(weight=0.1, probes=2)"],
    "generalized_cross_entropy": ["generalized_cross_entropy(q=0.7, truncation=0.3)"],
    "hessian_frobenius": [
        "hessian_frobenius(weight=0.1)",
        "hessian_frobenius(weight=0.1, power=2)",
        "hessian_frobenius(weight=0.1, power=2, probes=2)",
    ],
    "isda": [
        "isda(strength=0.5, covariance='diagonal', decay=0.9, shrinkage=0.2)",
        "isda(strength=0.5, covariance='low_rank', rank=2)",
        "isda(strength=0.5, shrinkage=0.2)",
    ],
    "jacobian": ["jacobian(weight=0.1)"],
    "l1": ["l1(weight=0.1, exclude=('head',))"],
    "l2": ["l2(weight=0.1)"],
    "label_smoothing": ["label_smoothing(amount=0.1)"],
    "large_margin": ["large_margin(margin=4, base=2.0, gamma=0.1, power=2.0)"],
    "learned_augmentation": [
        "learned_augmentation(samples=2, uncertainty=0.1, margin=9, factor=0.5)",
        "learned_augmentation(samples=None, uncertainty=0.1, margin=9, factor=0.5)",
    ],
    "manifold_mixup": [f"manifold_mixup(alpha=1.0, {LAYERS})"],
    "mean_teacher": ["mean_teacher(weight=0.1, decay=0.9, shared=('random_flip',))"],
    "mixup": ["mixup(alpha=0.5, per_example=True)"],
    "noise_injection": ["noise_injection(sigma=0.1)"],
    "noisy_feature_mixup": [
        f"noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, {LAYERS})",
    ],
    "noisy_mixup": ["noisy_mixup(alpha=1.0, add=0.4, multiply=0.2, random_levels=False)"],
    "pi_model": ["pi_model(weight=0.1)"],
    "policy": ["policy(sub=(('crop', 0.5, 'noise', 0.1), ('sharpen', 0.7, 'shear', 0.3)))"],
    "puzzlemix": ["puzzlemix(alpha=1.0, blocks=2)"],
    "rand_augment": ["rand_augment(operations=2, magnitude=9, mean=(0.5,), std=(0.25,))"],
    "random_crop": ["random_crop(padding=1, fill=(0.5,))"],
    "random_flip": ["random_flip"],
    "scaled_crop": [
        "scaled_crop(size=(4, 2), low=0.5, high=1.5, step=0.25, fill=(0.5,))",
    ],
    "semantic_consistency": ["semantic_consistency(weight=0.1)"],
    "sign": ["sign(iterations=2, step=0.5, momentum=0.5)"],
    "temporal_ensembling": ["temporal_ensembling(weight=0.1, images=160)"],
    "vat": [
        "vat(weight=0.1, epsilon=0.5)",
        "vat(weight=0.1, epsilon=0.5, iterations=2, finite_difference=0.01)",
    ],
}
# Those for which a network with BatchNorm tells frozen statistics from the batch's own.
FROZEN = [
    "double_backprop(weight=0.1, batch_norm='frozen')",
    "frobenius(weight=0.1, probes=1, batch_norm='frozen')",
    "hessian_frobenius(weight=0.1, power=2, batch_norm='frozen')",
    "jacobian(weight=0.1, probes=2, batch_norm='frozen')",
]
COMPOSITIONS = [
    "cross_entropy | l2(weight=0.1) | label_smoothing(amount=0.1) | frobenius(weight=0.1, probes=1)"
    " | noise_injection(sigma=0.1) | l2(weight=0.1, exclude=())",
    f"isda(strength=0.5) | noisy_feature_mixup(alpha=1.0, add=0.4, multiply=0.2, {LAYERS})"
    " | double_backprop(weight=0.1)",
]


def expression(stage: str, link: str) -> str:
    if REGISTRY[stage].kind == "base":
        return link
    base = "isda(strength=0.5)" if stage == "semantic_consistency" else "cross_entropy"
    return f"{base} | {link}"


ON_UNLABELED = [name for name in TABLE if REGISTRY[name].over == "unlabeled"]
# Those of unlabelled images come side by side, and each by itself in the slow tests.
TOGETHER = " | ".join(["isda(strength=0.5)", *(TABLE[name][0] for name in ON_UNLABELED)])
COMPOSITIONS.append(TOGETHER)
ROWS = [expression(stage, link) for stage, links in TABLE.items() for link in links]
SIDE_BY_SIDE = " | ".join(
    ["cross_entropy"]
    + [
        link
        for name, links in TABLE.items()
        for link in links
        if REGISTRY[name].kind == "penalty" and name not in ON_UNLABELED
    ]
)
WRAPPERS = " | ".join(links[0] for name, links in TABLE.items() if REGISTRY[name].kind == "wrapper")
WITHOUT_BASES = {n for n in TABLE if REGISTRY[n].kind != "base" and n not in ON_UNLABELED}
# A mask or a move found on the side is constant to derivatives; a mask takes long to compile.
ASIDE = ("puzzlemix", "sign")
SMOOTH = " | ".join(link for link in WRAPPERS.split(" | ") if not link.startswith(ASIDE))
# Of what shares most of its code, one does for the tests that take programs of their own.
BASES = ["cross_entropy", "isda(strength=0.5, shrinkage=0.2)"]
PENALTIES = "cross_entropy | double_backprop(weight=0.1) | jacobian(weight=0.1, probes=2)"


def slow_unless_in(fast: list[str], every: list[str]) -> list[Any]:
    return fast + [pytest.param(row, marks=pytest.mark.slow) for row in every if row not in fast]


TO_ORDER_TWO = slow_unless_in(
    ["cross_entropy", PENALTIES],
    [
        SIDE_BY_SIDE,
        f"cross_entropy | {SMOOTH}",
        # What is detached and depends on the last layer looks wrong to differences: in penalties on
        # unlabelled images, targets.
        *(r for r in ROWS if not r.startswith("cross_entropy") and " | " not in r),
    ],
)
# Module scope keeps the tests of a row together, and so its compiled program within one process.
# Of policies and loops around the network, which compile for seconds, the slow tests tell.
SLOW = (*ON_UNLABELED, "policy", "sign(")
FAST = [*(r for r in ROWS if not any(f" {n}" in r for n in SLOW)), *COMPOSITIONS]
EVERY = pytest.mark.parametrize(
    "text", slow_unless_in(FAST, [*ROWS, *COMPOSITIONS]), scope="module"
)
# What takes programs of its own is told of each row by the slow tests, and fast of two penalties
# and of a wrapper of two examples.
WRAPPED = "cutmix"
EVERY_KIND = pytest.mark.parametrize(
    "text",
    slow_unless_in(
        [PENALTIES, *BASES, expression(WRAPPED, TABLE[WRAPPED][0])],
        [SIDE_BY_SIDE, *ROWS, *COMPOSITIONS],
    ),
    scope="module",
)
MESH = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
KEY = jax.random.key(3)


def objective(
    params: Any, loss: rj.Loss, batch: rj.Batch, key: jax.Array, axis_name: str | None = None
) -> tuple[jax.Array, dict[str, Any]]:
    """The total and the parts."""
    forward = tanh_forward(params)
    result, _ = loss.apply(loss.init(forward, batch), forward, batch, key)
    parts = {name: getattr(result, name) for name in ("losses", "penalties", "metrics")}
    parts["penalties"] = result.penalties | result.unlabeled  # of as many images
    total = rj.total(result, batch, axis_name=axis_name)
    return total, parts | {"logits": result.outputs.logits, "weight": result.weight}


def evaluate(
    loss: rj.Loss, params: Any, batch: rj.Batch, key: jax.Array, axis_name: str | None = None
) -> dict[str, Any]:
    """The total, its gradient by the parameters, and the parts."""
    both = jax.value_and_grad(objective, has_aux=True)
    (total, parts), gradient = both(params, loss, batch, key, axis_name)
    return parts | {"total": total, "gradient": gradient}


jitted = jax.jit(evaluate)


@jax.jit
def apply(loss: rj.Loss, state: rj.LossState, batch: rj.Batch) -> tuple[Any, rj.LossState]:
    """The parts alone, from a given state on."""
    result, state = loss.apply(state, tanh_forward(), batch, KEY)
    return (result.losses, result.penalties | result.unlabeled, result.metrics), state


def with_numbers(loss: rj.Loss, value: Any) -> rj.Loss:
    """The loss with all its strengths set to `value`."""
    return jax.tree.map(lambda _: value, loss)


def random_batch(size: int = 16, **options: Any) -> rj.Batch:
    """With as many unlabelled examples."""
    unlabeled = support.random_batch(size, **options | {"seed": 2})
    unlabeled = unlabeled.replace(label=jnp.zeros_like(unlabeled.label))
    return support.random_batch(size, **options).replace(unlabeled=unlabeled)


def across(loss: rj.Loss, axis_name: str) -> rj.Loss:
    """The loss whose stages look at the examples of all devices."""

    def with_axis(stage: Any) -> Any:
        known = "axis_name" in stage.definition.arguments
        more = {"axis_name": axis_name} if known else {}
        return stage.definition.bind(stage.arguments | more)

    return rj.Loss(tuple(with_axis(stage) for stage in loss.stages))


def is_leaf(stage: Any, name: str) -> bool:
    """Whether an argument is a number that was given; to give one that was None is another loss."""
    return stage.definition.is_number(name) and stage.arguments[name] is not None


def padded(batch: rj.Batch, real: int) -> rj.Batch:
    """Weight 0 and a garbage image on all but `real` examples, none of which is on device 0."""
    if batch.unlabeled is not None:
        batch = batch.replace(unlabeled=padded(batch.unlabeled, real))
    weight = (jnp.arange(16) >= 16 - real).astype(float)
    image = jnp.where(weight[:, None, None, None] == 0, 1e3, batch.image)
    return batch.replace(image=image, weight=weight)


@pytest.fixture(autouse=True)
def _quick_compilation() -> Iterator[None]:
    """Much is compiled here, and XLA's optimizations are not the subject."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_every_stage_is_in_the_table() -> None:
    modules = [
        importlib.import_module(m.name) for m in pkgutil.walk_packages(rj.__path__, "regjax.")
    ]
    stages = {
        name
        for module in modules
        for name, value in vars(module).items()
        if hasattr(value, "definition") and getattr(value, "__module__", "") == module.__name__
    }
    assert stages == set(TABLE), "every public stage has its sample arguments in TABLE"
    assert stages <= set(rj.__all__)
    frozen = {name for name in stages if "batch_norm" in REGISTRY[name].arguments}
    frozen -= set(ON_UNLABELED)
    assert frozen == {link.split("(")[0] for link in FROZEN}
    assert all(REGISTRY[name] is getattr(rj, name).definition for name in stages)


@EVERY_KIND
def test_jit_equals_eager(text: str) -> None:
    """Values only: eagerly, every operation is compiled by itself."""
    loss, params, batch = rj.parse(text), tanh_params(), random_batch()
    total, parts = objective(params, loss, batch, KEY)
    compiled = jitted(loss, params, batch, KEY)
    assert_close({name: compiled[name] for name in parts}, parts)
    assert_close(compiled["total"], total)


@EVERY_KIND
@pytest.mark.parametrize("real", [16, 11])
def test_devices_equal_one_device(text: str, real: int) -> None:
    loss, params = rj.parse(text), tanh_params()
    batch = padded(random_batch(), real)
    expected = jitted(loss, params, batch, KEY)
    sharded = jax.device_put(batch, NamedSharding(MESH, PartitionSpec("data")))
    assert_close(jitted(loss, params, sharded, KEY), expected)
    loss = across(loss, "data")
    # Scalars of a device, its metrics and means of penalties, are its own: the total counts them.
    expected = {name: expected[name] for name in ("total", "gradient")} | by_example(expected)
    assert_close(by_pmap(loss, params, batch), expected)
    assert_close(by_shard_map(loss, params, batch), expected)


def by_example(parts: dict[str, Any]) -> dict[str, Any]:
    penalties = {name: value for name, value in parts["penalties"].items() if value.ndim}
    return {"losses": parts["losses"], "logits": parts["logits"], "penalties": penalties}


@functools.partial(jax.pmap, axis_name="data", in_axes=(None, None, 0))
def pmapped(loss: rj.Loss, params: Any, batch: rj.Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = evaluate(loss, params, batch, KEY, "data")
    everywhere = {name: parts[name] for name in ("total", "gradient")}
    return jax.lax.pmean(everywhere, "data"), by_example(parts)


def by_pmap(loss: rj.Loss, params: Any, batch: rj.Batch) -> dict[str, Any]:
    shards = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    everywhere, parts = pmapped(loss, params, shards)
    flat = jax.tree.map(lambda x: x.reshape(16, *x.shape[2:]), parts)
    return flat | jax.tree.map(lambda x: x[0], everywhere)


@jax.jit
def by_shard_map(loss: rj.Loss, params: Any, batch: rj.Batch) -> dict[str, Any]:
    """As in a user's program: the gradient of the mean over the devices, checks on."""

    def on_device(loss: rj.Loss, params: Any, batch: rj.Batch) -> tuple[Any, Any]:
        def objective(params: Any) -> tuple[jax.Array, dict[str, Any]]:
            forward = tanh_forward(params)
            result, _ = loss.apply(loss.init(forward, batch), forward, batch, KEY)
            total = jax.lax.pmean(rj.total(result, batch, axis_name="data"), "data")
            more = {"logits": result.outputs.logits}
            more["penalties"] = result.penalties | result.unlabeled
            return total, by_example(result._asdict() | more)

        (total, parts), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        return {"total": total, "gradient": gradient}, parts

    data, everywhere = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(
        on_device,
        mesh=MESH,
        in_specs=(everywhere, everywhere, data),
        out_specs=(everywhere, data),
    )
    everywhere, parts = mapped(loss, params, batch)
    return everywhere | parts


@EVERY_KIND
def test_padding_changes_nothing(text: str) -> None:
    loss, params, batch = rj.parse(text), tanh_params(), random_batch()
    whole = jitted(loss, params, padded(batch, 11), KEY)
    short = jax.tree.map(lambda x: x[5:], batch).replace(weight=None)
    short = jitted(loss, params, short, KEY)
    for name in ("total", "gradient", "metrics"):
        assert_close(whole[name], short[name])


@EVERY_KIND
def test_vmap_equals_a_loop(text: str) -> None:
    # With weights, as in the tests above, whose programs it shares.
    loss, batch = rj.parse(text), padded(random_batch(), 16)
    losses = [with_numbers(loss, strength) for strength in (0.0, 0.1, 0.3)]
    params = [tanh_params(seed) for seed in range(3)]
    keys = list(jax.random.split(KEY, 3))
    stacked = [jax.tree.map(lambda *x: jnp.stack(x), *each) for each in (losses, params, keys)]
    together = jax.jit(jax.vmap(evaluate, in_axes=(0, 0, None, 0)))(
        stacked[0], stacked[1], batch, stacked[2]
    )
    for i, arguments in enumerate(zip(losses, params, keys, strict=True)):
        one = jitted(arguments[0], arguments[1], batch, arguments[2])
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), one)


# Of weights, of draws, of sizes and of a margin's annealing, none is a strength.
WITHOUT_STRENGTH = (
    *("aleatoric", "class_weights", "large_margin", "auto_augment", "rand_augment"),
    "scaled_crop",
)


@pytest.mark.parametrize(
    "text",
    slow_unless_in(
        [text for text in FAST if not any(name in text for name in WITHOUT_STRENGTH)],
        [text for text in ROWS if not any(name in text for name in WITHOUT_STRENGTH)],
    ),
    scope="module",
)
def test_strength_zero_is_the_loss_without(text: str) -> None:
    loss, params, batch = with_numbers(rj.parse(text), 0.0), tanh_params(), random_batch()
    if "focal" in text:  # alpha is a factor of the whole
        loss = rj.focal(gamma=0.0)
    zero, plain = (jitted(each, params, batch, KEY) for each in (loss, rj.cross_entropy()))
    for name in ("total", "losses", "logits", "gradient"):
        assert_same(zero[name], plain[name])


@pytest.mark.slow  # all penalties in one program, twice
def test_penalties_commute() -> None:
    # Draws go by name, and so by the order of those of one name: the exact ones are compared.
    links = [link for link in SIDE_BY_SIDE.split(" | ")[1:] if "probes" not in link]
    expected = None
    for order in ([*links, WRAPPERS], [*reversed(links), WRAPPERS], [WRAPPERS, *links]):
        loss, batch = rj.parse(" | ".join(["cross_entropy", *order])), random_batch()
        state = loss.init(tanh_forward(), batch)
        (losses, penalties, _), _ = apply(loss, state, batch)
        names = dict(loss.named()).items()
        by_link = {repr(stage): penalties[name] for name, stage in names if name in penalties}
        assert set(by_link) == set(links)
        expected = expected or (losses, by_link)
        assert_close((losses, by_link), expected)


@EVERY
def test_gradients_are_finite_at_zero_and_at_extreme_logits(text: str) -> None:
    loss, params, batch = rj.parse(text), tanh_params(), random_batch()
    black = batch.replace(image=jnp.zeros_like(batch.image))
    assert_finite(jitted(loss, params, black, KEY))
    assert_finite(jitted(loss, jax.tree.map(jnp.zeros_like, params), black, KEY))
    logits = tanh_forward(params)(batch.image).logits
    scale = 1e4 / jnp.max(jnp.abs(logits))
    extreme = params | {"head": jax.tree.map(lambda x: x * scale, params["head"])}
    for wrong in (jnp.argmin(logits, -1), jnp.argmax(logits, -1)):
        result = jitted(loss, extreme, batch.replace(label=jax.nn.one_hot(wrong, CLASSES)), KEY)
        assert_finite(result)
        assert jnp.max(jnp.abs(result["logits"])) > 5e3


@EVERY
def test_soft_one_hot_labels_equal_hard_labels(text: str) -> None:
    loss, params, batch = rj.parse(text), tanh_params(), random_batch()
    soft = jax.nn.softmax(50 * batch.label)  # 1 and 2e-22, where a case for hard labels would miss
    assert jnp.all(soft[batch.label == 0] > 0)
    expected = jitted(loss, params, batch, KEY)
    assert_close(jitted(loss, params, batch.replace(label=soft), KEY), expected)


@EVERY_KIND
def test_bfloat16_in_gives_float32_statistics(text: str) -> None:
    loss = rj.parse(text)
    if "puzzlemix" in text:
        loss = with_numbers(loss, 0.0)  # a saliency that rounding changes changes the mask
    coarse = tanh_params(dtype=jnp.bfloat16), random_batch(dtype=jnp.bfloat16)
    fine = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, coarse)
    result, expected = (jitted(loss, *inputs, KEY) for inputs in (coarse, fine))
    parts = {name: result[name] for name in ("losses", "penalties", "metrics", "total")}
    assert {x.dtype for x in jax.tree.leaves(parts)} == {jnp.dtype(jnp.float32)}
    assert_finite(result)
    for name in parts:
        assert_close(result[name], expected[name], jnp.bfloat16)


@EVERY
def test_a_permuted_batch_gives_permuted_losses(text: str) -> None:
    loss, params, batch = rj.parse(text), tanh_params(), random_batch()
    order = np.random.default_rng(0).permutation(16)
    expected = jitted(loss, params, batch, KEY)
    moved = jitted(loss, params, jax.tree.map(lambda x: x[order], batch), KEY)
    for name in ("losses", "penalties", "logits"):
        reordered = jax.tree.map(lambda x: x[order] if x.ndim else x, expected[name])
        assert_close(moved[name], reordered)
    assert_close(moved["gradient"], expected["gradient"])


@EVERY
def test_one_compilation_for_all_numbers(text: str) -> None:
    """A program is traced again only where its arguments look different, whatever is in it."""
    loss, program = rj.parse(text), jax.jit(chex.assert_max_traces(lambda loss: loss, n=1))
    program(loss)
    kinds = (0, 1, 0.5, np.float32(0.1), np.float64(0.2), np.array(0.3), jnp.float32(0.4))
    for value in (*kinds, jnp.asarray(0.5), jnp.array(0.6), jnp.bfloat16(0.5), jnp.int32(1)):
        stages = [
            stage.definition.bind(
                {
                    name: value if is_leaf(stage, name) else given
                    for name, given in stage.arguments.items()
                }
            )
            for stage in loss.stages
        ]
        other = rj.Loss(tuple(stages))
        assert all(isinstance(number, float) for number in jax.tree.leaves(other))
        program(other)


@pytest.mark.parametrize("text", TO_ORDER_TWO)
def test_derivatives_to_order_two_in_float64(text: str) -> None:
    """The penalties side by side, each an output of its own, for they compile faster together."""
    with jax.enable_x64(True):
        loss = rj.parse(text)
        batch = random_batch(4, dtype=jnp.float64)

        @jax.jit
        def terms(params: Any) -> dict[str, jax.Array]:
            forward = tanh_forward(params)
            result, _ = loss.apply(loss.init(forward, batch), forward, batch, KEY)
            return result.metrics | {"total": rj.total(result, batch)}

        params = tanh_params(dtype=jnp.float64)
        # Statistics are detached from the features, which differences would see change.
        fixed = {} if text.startswith("cross_entropy") else {"hidden": params["hidden"]}
        moved = {name: value for name, value in params.items() if name not in fixed}
        assert {x.dtype for x in jax.tree.leaves(terms(params))} == {jnp.dtype(jnp.float64)}
        # All wrappers at once take most of a minute to compile in every mixture of modes.
        modes = ("rev",) if SMOOTH in text else ("fwd", "rev")
        check_grads(lambda p: terms(fixed | p), (moved,), order=2, modes=modes, eps=1e-5)


@EVERY
def test_expressions_name_everything(text: str) -> None:
    loss, batch = rj.parse(text), random_batch()
    assert rj.parse(repr(loss)) == loss
    assert rj.parse(repr(with_numbers(loss, 0.7))) == with_numbers(loss, 0.7)
    result = jitted(loss, tanh_params(), batch, KEY)
    named = dict(loss.named())
    penalties = {n for n, stage in named.items() if stage.definition.kind == "penalty"}
    base = next(iter(named))
    assert set(result["penalties"]) == penalties
    assert set(result["metrics"]) == penalties | {base}
    mean = np.average(np.float64(result["losses"]), weights=result["weight"])
    assert_close(result["metrics"][base], mean)
    for name in penalties:
        weight = named[name].arguments["weight"]
        assert_close(weight * result["metrics"][name], jnp.mean(result["penalties"][name]))


@EVERY
def test_total_is_the_sum_by_hand(text: str) -> None:
    batch = random_batch()
    weight = np.random.default_rng(5).uniform(size=16) * (np.arange(16) % 3 > 0)
    batch = batch.replace(weight=jnp.asarray(weight, jnp.float32))
    result = jitted(rj.parse(text), tanh_params(), batch, KEY)
    own = weight if result["weight"] is None else np.float64(result["weight"])
    expected = np.average(np.float64(result["losses"]), weights=own)
    for name, value in result["penalties"].items():
        value, own = np.float64(value), None if name in ON_UNLABELED else weight
        expected += np.average(value, weights=own) if value.ndim else value
    assert_close(result["total"], expected)


@EVERY_KIND
def test_schedules_follow_the_step(text: str) -> None:
    loss, batch = rj.parse(text), random_batch()
    schedule = optax.linear_schedule(0.0, 0.4, transition_steps=2)
    scheduled = with_numbers(loss, schedule)
    assert jax.tree.leaves(scheduled) == []
    state = jax.eval_shape(lambda: scheduled.init(tanh_forward(), batch))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    for step in range(4):
        assert state.step == step
        number = with_numbers(loss, float(schedule(step)))
        expected, _ = apply(number, state, batch)
        result, state = apply(scheduled, state, batch)
        assert_close(result, expected)


@pytest.mark.parametrize("stage", TABLE)
def test_numbers_have_ranges(stage: str) -> None:
    """Every number states its range, and what is out of it is refused however it is given."""
    transform, definition = getattr(rj, stage), REGISTRY[stage]
    given = dict(rj.parse(expression(stage, TABLE[stage][0])).stages[-1].arguments)
    loss = () if definition.kind == "base" else (rj.cross_entropy(),)
    for name in filter(definition.is_number, given):
        stated = definition.range(name)
        assert stated is not None, f"annotate {stage}'s {name} with its range"
        for wrong in (stated.low - 0.25, stated.high + 0.25, np.nan):
            for value in (wrong, np.array([given[name] or 0.0, wrong])):
                with pytest.raises(ValueError, match=f"^{stage}'s {name} must be "):
                    transform(*loss, **given | {name: value})
            arguments = given | {name: wrong}
            text = ", ".join(f"{each}={value!r}" for each, value in arguments.items())
            if np.isfinite(wrong):
                with pytest.raises(ValueError, match=f"^{stage}'s {name} must be "):
                    rj.parse(expression(stage, f"{stage}({text})"))
            traced = jax.eval_shape(lambda x: transform(*loss, **given | {name: x}), wrong)  # noqa: B023
            assert isinstance(traced, rj.Loss)


@pytest.mark.parametrize("stage", TABLE)
def test_counts_and_switches_are_what_they_state(stage: str) -> None:
    transform, definition = getattr(rj, stage), REGISTRY[stage]
    given = dict(rj.parse(expression(stage, TABLE[stage][0])).stages[-1].arguments)
    loss = () if definition.kind == "base" else (rj.cross_entropy(),)
    for name in given:
        stated = set(kinds(definition.arguments[name].annotation)) - {type(None)}
        for kind, wrongs in ((int, (2.5, "2", True)), (bool, ("no", 2, None))):
            for wrong in wrongs if stated == {kind} else ():
                with pytest.raises(ValueError, match=f"^{stage}'s {name} must be "):
                    transform(*loss, **given | {name: wrong})


def test_transforms_document_their_arguments() -> None:
    for stage in TABLE:
        transform = getattr(rj, stage)
        signature = inspect.signature(transform)
        assert set(signature.parameters) - {"loss"} == set(transform.definition.arguments)
        for argument in transform.definition.arguments:
            assert f"{argument}: " in transform.__doc__, (stage, argument)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "penalty"])
def test_a_view_of_a_batch_is_what_the_wrappers_make_of_it(kind: str) -> None:
    """All wrappers at once, with the loss's own key; another key gives another view."""

    def distances(outputs: rj.Outputs, batch: rj.Batch, view: rj.View, seed: float) -> jax.Array:
        forward, seen = view(batch.unlabeled, jax.random.key(jnp.int32(seed)))
        again = forward(seen.image, named_key(KEY, "forward()"))
        pairs = (again.logits, outputs.logits), (seen.image, batch.image), (seen.label, batch.label)
        return sum(jnp.abs(a - b).reshape(16, -1).sum(1) for a, b in pairs)

    @rj.base
    def base_of_views(outputs, batch, view, *, seed: float):
        return distances(outputs, batch, view, seed)

    @rj.penalty
    def penalty_of_views(point, batch, view, *, seed: float):
        return distances(point.outputs, batch, view, seed)

    batch = support.random_batch()
    batch = batch.replace(unlabeled=batch)
    apply = jax.jit(lambda loss, *given: loss.apply(*given, KEY))  # one program for both seeds
    for seed, near in ((3, True), (4, False)):
        text = f"cross_entropy | {WRAPPERS} | penalty_of_views(weight=1, seed={seed})"
        if kind == "base":
            text = f"base_of_views(seed={seed}) | {WRAPPERS}"
        loss, forward = rj.parse(text), tanh_forward()
        state = loss.init(forward, batch)
        result, _ = apply(loss, state, forward, batch)
        apart = result.losses if kind == "base" else result.penalties["penalty_of_views"]
        assert jnp.all(apart < 1e-3 if near else apart > 1e-2)


# A convolutional network in Flax NNX, with BatchNorm and dropout.

conv_batch = functools.partial(random_batch, 4, shape=CONV_SHAPE)


@functools.cache
def conv_forward() -> rj.Forward:
    from flax import nnx

    return regjax.flax.bind(ConvNet(nnx.Rngs(0)), head="head")


def conv_evaluate(
    loss: rj.Loss, forward: rj.Forward, batch: rj.Batch, key: jax.Array
) -> tuple[Any, Any]:
    def objective(params: Any) -> tuple[jax.Array, Any]:
        bound = forward.replace(params=params)
        result, _ = loss.apply(loss.init(bound, batch), bound, batch, key)
        return rj.total(result, batch), (result.losses, result.penalties, result.outputs.state)

    return jax.value_and_grad(objective, has_aux=True)(forward.params)


conv_jitted = jax.jit(chex.assert_max_traces(conv_evaluate, n=1))


@pytest.mark.nnx
def test_nnx_jit_equals_eager() -> None:
    loss = rj.parse(
        "cross_entropy | double_backprop(weight=0.1) | noise_injection(sigma=0.1) | l2(weight=0.1)"
    )
    compiled = conv_jitted(loss, conv_forward(), conv_batch(), KEY)
    assert_close(compiled, conv_evaluate(loss, conv_forward(), conv_batch(), KEY))


@pytest.mark.slow
@pytest.mark.nnx
def test_nnx_with_every_stage_at_once() -> None:
    text = " | ".join([SIDE_BY_SIDE, *FROZEN, WRAPPERS]).replace("'head'", "'bias'")
    text = text.replace("cross_entropy", "isda(strength=0.5)").replace("'hidden'", "'blocks.0'")
    loss, forward, batch = rj.parse(text), conv_forward(), conv_batch()
    assert {stage.definition.name for stage in loss.stages} == {*WITHOUT_BASES, "isda"}
    compiled = conv_jitted(loss, forward, batch, KEY)
    assert_finite(compiled)
    (_, (losses, penalties, state)), gradient = compiled
    assert losses.shape == (4,)
    kinds = [stage.definition.kind for stage in loss.stages]
    assert len(penalties) == kinds.count("penalty")
    # An example whose features are all dropped has no gradient.
    assert all(jnp.all(p >= 0) and jnp.any(p > 0) for p in penalties.values())
    moved = forward.replace(state=state, params=gradient)
    black = batch.replace(image=jnp.zeros_like(batch.image))
    assert_finite(conv_jitted(with_numbers(loss, 0.9), moved, black, jax.random.key(9)))
    assert_finite(conv_jitted(loss, forward, conv_batch(seed=2), KEY))
