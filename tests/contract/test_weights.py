"""Weights and a normalizer: the same of every loss that can be masked, so that one number joins what is computed apart.

The truth is the unreduced loss, weighted and divided by hand.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import lossjax
from lossjax import families
from lossjax._core.reduction import Reducer
from lossjax.verify import exact
from lossjax.verify.samples import loss_of, sample
from lossjax.verify.signatures import SIGNATURES
from tests.support.cases import OF_EACH_FILE
from tests.support.exactness import overlap
from tests.support.quick import quick

Loss = Callable[..., Any]
WEIGHTED = [name for name in SIGNATURES if "weights" in inspect.signature(loss_of(name)).parameters]


def _example(name: str) -> tuple[Loss, list[np.ndarray], list[int]]:
    """A loss with arguments of three rows, and which of them are floats."""
    if name == "canonical_nll":
        loss = functools.partial(lossjax.canonical_nll, families.Poisson())
        return loss, [np.random.default_rng(0).normal(size=(3, 4)), np.ones((3, 4))], [0, 1]
    drawn = sample(name, np.float64, (3, 4))
    return drawn.loss, list(drawn.arguments), list(drawn.argnums)


NO_LOSSES = ("softmax", "log_softmax", "logsumexp", "token_log_probs", "token_statistics")
"""How the names of functions end that have a mask and are no losses: what is made of them is weighted."""


def test_every_loss_that_can_be_masked_can_be_weighted() -> None:
    for name in lossjax.__all__:
        parameters = inspect.signature(getattr(lossjax, name)).parameters if callable(getattr(lossjax, name)) else {}
        if "reduction" in parameters or ("where" in parameters and not name.endswith(NO_LOSSES)):
            assert {"where", "weights", "normalizer"} <= set(parameters), name


def test_a_hessian_is_that_of_the_weighted_sum(random: np.random.Generator) -> None:
    """Product and gradients, in logits, vector, weights and normalizer, are exactly those of the differentiated loss.

    What a masked row is weighted with is not felt.
    """
    with jax.enable_x64(True):
        z, vector, into = (jnp.asarray(random.normal(size=(3, 4))) for _ in range(3))
        kept, labels = jnp.array([True, False, True]), jnp.array([0, 1, 3])
        options = {"where": kept, "z_loss": 0.1, "logit_softcap": 3.0, "class_weights": jnp.arange(1.0, 5.0)}

        def ours(z: jax.Array, vector: jax.Array, weights: jax.Array, normalizer: jax.Array) -> jax.Array:
            given = {"weights": weights, "normalizer": normalizer}
            return lossjax.softmax_cross_entropy_hvp(z, labels, vector, **given, **options)

        def unweighted(z: jax.Array, vector: jax.Array, weights: jax.Array, normalizer: jax.Array) -> jax.Array:
            return ours(z, vector, jnp.ones_like(weights), normalizer)

        def wanted(z: jax.Array, vector: jax.Array, weights: jax.Array, normalizer: jax.Array) -> jax.Array:
            given = {"weights": weights, "normalizer": normalizer, "reduction": "sum"}
            plain = functools.partial(
                lossjax.softmax_cross_entropy_with_integer_labels.plain, labels=labels, **given, **options
            )
            return jax.jvp(jax.grad(plain), (z,), (vector,))[1]

        def pulled(form: Loss, z: jax.Array, vector: jax.Array, weights: jax.Array) -> list[jax.Array]:
            product, pull = jax.vjp(form, z, vector, weights, jnp.asarray(-7.5))
            return [product, *pull(into)]

        weights = jnp.array([-0.5, 3.0, 2.0])
        got, want = (exact(functools.partial(pulled, form))(z, vector, weights) for form in (ours, wanted))
        fault = quick(functools.partial(pulled, unweighted))(z, vector, weights)
        for g, w, f in zip(got, want, fault, strict=True):
            overlap(g, w, within=1e-30)
            assert np.max(np.abs(np.asarray(f) - w.astype(float))) > 1e-3, "what forgets the weights would pass"
        run = quick(functools.partial(pulled, ours))
        computed, hidden = (run(z, vector, w) for w in (weights, weights.at[1].set(np.nan)))
        assert all(np.array_equal(g, h) for g, h in zip(computed, hidden, strict=True))
        assert not any(np.any(x[1]) for x in computed[:4])


HOWS = ("none", "sum", "mean")
GIVEN = ("weights",), ("weights", "normalizer"), ("normalizer",)


Asked = tuple[str, tuple[str, ...]]
"""A reduction, and which of the two is given."""


def by_hand(losses: jax.Array, kept: np.ndarray, weights: jax.Array, normalizer: jax.Array) -> dict[Asked, jax.Array]:
    """Weighted; weighted and normalized; normalized: each for none, sum and mean."""
    plain, counted = jnp.where(kept, losses, 0), jnp.where(kept, weights * losses, 0)
    total, mass = jnp.sum(counted), jnp.sum(jnp.where(kept, weights, 0))
    return dict(zip(itertools.product(HOWS, GIVEN), [
        counted, counted / normalizer, plain / normalizer,
        total, total / normalizer, jnp.sum(plain) / normalizer,
        total / mass, total / normalizer, jnp.sum(plain) / normalizer,
    ], strict=True))  # fmt: skip


NAMES = [*(n for n in WEIGHTED if n != "mean_squared_error"), "canonical_nll"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["weights", "normalizer"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_they_are_passed_on(name: str, option: str, reduction: str) -> None:
    """A result is of the widest dtype: what is left out does not widen it."""
    with jax.enable_x64(True):
        loss, arguments, argnums = _example(name)
        narrow = [a.astype(np.float32) if i in argnums else a for i, a in enumerate(arguments)]
        shape = jax.eval_shape(loss, *narrow).shape if option == "weights" else ()
        reduced = functools.partial(loss, reduction=reduction)
        without = jax.eval_shape(reduced, *narrow)
        result = jax.eval_shape(reduced, *narrow, **{option: jax.ShapeDtypeStruct(shape, np.float64)})
    assert (without.dtype, result.dtype) == (np.float32, np.float64)


FAST = {case.name for case in OF_EACH_FILE} | {"canonical_nll"}
ASKED = sorted(NAMES, key=lambda name: name not in FAST)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NAMES]
)
def test_weights_and_normalizer_are_those_of_the_unreduced_loss(name: str) -> None:
    """Value, and gradients in all floats, weights and normalizer too; what a mask hides, NaN or not, has none.

    Each loss is asked one of the nine combinations, the next loss the next: one ``Reducer`` makes them all, and of
    every loss is asked above whether it is given both.
    """
    turn = ASKED.index(name)
    asked = [(HOWS[turn % 3], GIVEN[turn // 3 % 3])]
    with jax.enable_x64(True):
        loss, arguments, argnums = _example(name)
        shape, random = jax.eval_shape(loss, *arguments).shape, np.random.default_rng(1)
        kept = np.broadcast_to(np.arange(3).reshape(3, *[1] * (len(shape) - 1)) != 1, shape)
        cotangents = random.normal(size=len(asked))

        def ours(args: list[Any], weights: jax.Array, normalizer: jax.Array) -> list[jax.Array]:
            masked = functools.partial(loss, *args, where=jnp.asarray(kept))
            both = {"weights": weights, "normalizer": normalizer}
            return [masked(reduction=how, **{option: both[option] for option in given}) for how, given in asked]

        def wanted(args: list[Any], weights: jax.Array, normalizer: jax.Array) -> list[jax.Array]:
            results = by_hand(loss(*args), kept, weights, normalizer)
            return [results[one] for one in asked]

        def pullback(form: Loss) -> Callable[..., Any]:
            def total(floats: list[jax.Array], weights: jax.Array, normalizer: jax.Array) -> tuple[jax.Array, Any]:
                given = dict(zip(argnums, floats, strict=True))
                found = form([given.get(i, a) for i, a in enumerate(arguments)], weights, normalizer)
                slopes = [
                    g * np.cos(np.arange(x.size)).reshape(x.shape) for g, x in zip(cotangents, found, strict=True)
                ]
                return sum((jnp.sum(s * x) for s, x in zip(slopes, found, strict=True)), jnp.zeros(())), found

            compiled = quick(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))

            def pulled(floats: list[jax.Array], weights: jax.Array) -> Any:
                (_, found), gradients = compiled(floats, weights, jnp.asarray(-7.5))
                return found, gradients

            return pulled

        good, weights = [jnp.asarray(arguments[i]) for i in argnums], jnp.asarray(random.normal(size=shape))
        want, pulled = pullback(wanted)(good, weights), pullback(ours)

        def holding(masked: float) -> Any:
            return pulled([a.at[1].set(masked) for a in good], weights.at[1].set(masked))

        got = holding(0)
        for bad in (np.nan, np.inf, -np.inf, 1e300):
            for g, w in zip(jax.tree.leaves(holding(bad)), jax.tree.leaves(got), strict=True):
                assert np.array_equal(g, w), f"{name}: masked rows of {bad} are felt"
        # Sums of two results of as many losses as there are weights, each product within a few roundings.
        units = len(asked) * (weights.size + 8) * 2.0**-53
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.max(np.abs(g - w)) <= units * max(1, np.max(np.abs(w))), f"{name}: {g}, want {w}"
        in_floats, in_weights, _ = got[1]
        for slope in (*in_floats, in_weights):
            assert not np.any(slope[1]), f"{name}: a masked row has the gradient {slope[1]}"


def _tokens(random: np.random.Generator) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits, labels of which some are ignored (most in the last half), and a weight for each."""
    labels = np.array([1, -1, 4, 0, 2, -1, -1, -1], np.int32)
    return jnp.asarray(random.normal(size=(8, 5))), jnp.asarray(labels), jnp.asarray(random.normal(size=8) + 2)


def _weighted_mean(z: jax.Array, labels: jax.Array, weights: jax.Array, count: jax.Array | None = None) -> jax.Array:
    return lossjax.softmax_cross_entropy_with_integer_labels(
        z, labels, ignore_index=-1, weights=weights, normalizer=count, reduction="mean"
    )


def test_micro_batches_joined_by_one_normalizer_are_the_full_batch(random: np.random.Generator) -> None:
    """Summed over a loop of micro-batches, value and gradients are those of the mean over all rows at once."""
    with jax.enable_x64(True):
        z, labels, weights = _tokens(random)

        def accumulated(z: jax.Array, weights: jax.Array) -> jax.Array:
            count = jnp.sum(jnp.where(labels != -1, weights, 0))
            batches = z.reshape(4, 2, 5), labels.reshape(4, 2), weights.reshape(4, 2)
            return jax.lax.scan(lambda sum_, one: (sum_ + _weighted_mean(*one, count), None), jnp.zeros(()), batches)[0]

        got = quick(jax.value_and_grad(accumulated, (0, 1)))(z, weights)
        want = quick(jax.value_and_grad(lambda z, w: _weighted_mean(z, labels, w), (0, 1)))(z, weights)
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.max(np.abs(g - w)) <= 32 * 2.0**-53 * np.max(np.abs(w))


@pytest.mark.parametrize("divide", ["inside", "outside"])
def test_devices_joined_by_one_normalizer_are_the_full_batch(divide: str, random: np.random.Generator) -> None:
    """Rows over two devices: by a sum of parts over the common count, or (``jax.pmap``'s custom) by a mean of parts
    over a device's share of it."""
    with jax.enable_x64(True):
        z, labels, weights = _tokens(random)
        mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))

        def part(z: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
            mass = jnp.sum(jnp.where(labels != -1, weights, 0))
            if divide == "inside":
                return jax.lax.psum(_weighted_mean(z, labels, weights, jax.lax.psum(mass, "rows")), "rows")
            return jax.lax.pmean(_weighted_mean(z, labels, weights, jax.lax.pmean(mass, "rows")), "rows")

        rows = PartitionSpec("rows")
        sharded = jax.shard_map(part, mesh=mesh, in_specs=(rows, rows, rows), out_specs=PartitionSpec())
        got = quick(jax.value_and_grad(sharded, (0, 2)))(z, labels, weights)
        want = quick(jax.value_and_grad(_weighted_mean, (0, 2)))(z, labels, weights)
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.max(np.abs(g - w)) <= 32 * 2.0**-53 * np.max(np.abs(w))


def test_the_head_is_weighted_as_its_logits_are(random: np.random.Generator) -> None:
    with jax.enable_x64(True):
        _, labels, weights = _tokens(random)
        x, w = jnp.asarray(random.normal(size=(8, 3))), jnp.asarray(random.normal(size=(3, 5)))

        def of(loss: Loss, *args: jax.Array, **options: Any) -> jax.Array:
            return loss(*args, labels, ignore_index=-1, reduction="mean", **options)

        def head(x: jax.Array, w: jax.Array, weights: jax.Array, normalizer: jax.Array) -> jax.Array:
            loss = functools.partial(of, lossjax.linear_softmax_cross_entropy, x, w)
            return loss(weights=weights) + loss(normalizer=normalizer)

        def stored(x: jax.Array, w: jax.Array, weights: jax.Array, normalizer: jax.Array) -> jax.Array:
            loss = functools.partial(of, lossjax.softmax_cross_entropy_with_integer_labels, x @ w)
            return loss(weights=weights) + loss(normalizer=normalizer)

        arguments = x, w, weights, jnp.asarray(3.5)
        got, want = (quick(jax.value_and_grad(form, (0, 1, 2, 3)))(*arguments) for form in (head, stored))
        for g, truth in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert np.max(np.abs(g - truth)) <= 64 * 2.0**-53 * np.max(np.abs(truth))


def test_a_division_by_nothing() -> None:
    """Where no row of any batch counts, the common count is 0, and so is the mean; 0 rows are no excuse for others."""
    losses, none = jnp.float32([1, 2]), jnp.zeros(2, bool)

    def mean(losses: jax.Array, weights: jax.Array, normalizer: jax.Array | None, where: jax.Array | None) -> jax.Array:
        return Reducer("mean", where, weights, normalizer)(losses)

    slopes = jax.value_and_grad(mean, (0, 1))
    zero, ones, zeros = jnp.float32(0), jnp.ones(2), jnp.zeros(2)
    assert not any(np.any(x) for x in jax.tree.leaves(slopes(losses, ones, zero, none)))
    assert not any(np.any(x) for x in jax.tree.leaves(slopes(losses, ones, None, none)))
    assert not any(np.any(x) for x in jax.tree.leaves(slopes(losses, zeros, zero, None)))
    assert mean(losses, ones, zero, None) == np.inf
    assert np.isnan(mean(jnp.float32([1, np.nan]), jnp.float32([1, 0]), None, None)), "a weight of 0 is no mask"
    assert np.isnan(mean(jnp.float32([1, np.nan]), zeros, None, None))


def test_tiny_weights_have_the_gradients_of_usual_ones() -> None:
    """The square of their sum, which JAX's own derivative of a quotient takes, is below the smallest number."""
    losses, weights = jnp.float32([1, 5]), jnp.float32([1, 3])
    mean = jax.value_and_grad(lambda weights: Reducer("mean", None, weights)(losses))
    (usual, slope), (same, steep) = mean(weights), mean(weights * jnp.float32(2.0**-100))
    assert same == usual
    assert np.array_equal(steep * jnp.float32(2.0**-100), slope)


def test_the_result_is_of_the_widest_dtype() -> None:
    """A count, and a weight, say by their dtype how exactly they are meant, as in ``weights * loss / normalizer``."""
    with jax.enable_x64(True):
        losses, wide = jnp.ones(2, jnp.float32), jnp.ones(2, jnp.float64)
        assert Reducer("mean", None, wide)(losses).dtype == jnp.float64
        assert Reducer("sum", None, wide.astype(jnp.bfloat16), jnp.asarray(3))(losses).dtype == jnp.float32
        assert Reducer("none", None, None, jnp.asarray(3.0))(losses).dtype == jnp.float32
        assert lossjax.squared_error(losses, losses, normalizer=3).dtype == jnp.float32
        assert lossjax.squared_error(losses, losses, normalizer=np.float64(3)).dtype == jnp.float64
        exact = 2**24 + 1
        assert lossjax.squared_error(wide, 0 * wide, normalizer=exact, reduction="sum") == 2 / exact
