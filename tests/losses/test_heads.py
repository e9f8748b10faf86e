"""Heads whose logits are not stored: each is the row-wise function of the logits, in every derivative."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax._softmax import head, head_sum
from lossjax._softmax.head import Gradients
from lossjax.verify import check
from tests.support.quick import quick

ROWS, WIDTH, OTHER, CLASSES = (2, 5), 3, 2, 7
Arrays = dict[str, Any]


def drawn(dtype: Any = np.float64) -> Arrays:
    """Two heads, what rows have of their own, and options; the last four are scalars."""
    random = np.random.default_rng(5)
    shapes = {
        "hidden": (*ROWS, WIDTH), "weight": (WIDTH, CLASSES), "bias": (CLASSES,),
        "other_hidden": (*ROWS, OTHER), "other_weight": (OTHER, CLASSES), "other_bias": (CLASSES,), "weights": ROWS,
    }  # fmt: skip
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    arrays["probabilities"] = random.dirichlet(np.ones(3), ROWS)[..., :2]
    arrays |= {"temperature": np.float64(1.3), "logit_softcap": np.float64(4.0), "normalizer": np.float64(7.0)}
    arrays["mixture"] = np.float64(0.2)
    return {name: jnp.asarray(array, dtype) for name, array in arrays.items()}


def listed(a: Arrays) -> jax.Array:
    """Two distinct classes of each row."""
    rows = a["hidden"].shape[:-1]
    every = np.broadcast_to(np.arange(CLASSES), (*rows, CLASSES))
    return jnp.asarray(np.random.default_rng(6).permuted(every, axis=-1)[..., :2])


MASK = np.arange(10).reshape(ROWS) % 4 > 0
REDUCED = ("weights", "normalizer")


def logits_of(a: Arrays, prefix: str = "") -> jax.Array:
    z = jnp.matmul(a[f"{prefix}hidden"], a[f"{prefix}weight"])
    z = z + jnp.broadcast_to(a[f"{prefix}bias"], z.shape)
    z = z if "logit_softcap" not in a else a["logit_softcap"] * jnp.tanh(z / a["logit_softcap"])
    return z if "temperature" not in a else z / a["temperature"]


def picked(a: Arrays, *names: str) -> Arrays:
    return {name: a[name] for name in (*names, "temperature", "logit_softcap") if name in a}


def two(function: Callable[..., Any], *more: str) -> Callable[..., Any]:
    def of(a: Arrays, **options: Any) -> Any:
        pairs = (a[f"{prefix}{name}"] for prefix in ("", "other_") for name in ("hidden", "weight"))
        return function(*pairs, **picked(a, "bias", "other_bias", *REDUCED, *more), **options)

    return of


def two_stored(function: Callable[..., Any], *more: str) -> Callable[..., Any]:
    return lambda a, **options: function(
        logits_of(a), logits_of(a, "other_"), **{n: a[n] for n in (*REDUCED, *more) if n in a}, **options
    )


def sparse(a: Arrays, **options: Any) -> Any:
    return lossjax.linear_softmax_cross_entropy_with_sparse_targets(
        a["hidden"], a["weight"], listed(a), a["probabilities"], tail=True, **picked(a, "bias", *REDUCED), **options
    )


def sparse_stored(a: Arrays, **options: Any) -> Any:
    reduced = {n: a[n] for n in REDUCED if n in a}
    return lossjax.softmax_cross_entropy_with_sparse_targets(
        logits_of(a), listed(a), a["probabilities"], tail=True, **reduced, **options
    )


def statistics(a: Arrays, **options: Any) -> Any:
    found = lossjax.linear_token_statistics(a["hidden"], a["weight"], listed(a), **picked(a, "bias"), **options)
    return found[:3]


def statistics_stored(a: Arrays, **options: Any) -> Any:
    return lossjax.token_statistics(logits_of(a), listed(a), **options)[:3]


def users_loss(z: jax.Array, classes: jax.Array, q: jax.Array) -> Any:
    """With a scalar and a vector of each row."""
    log_p = lossjax.log_softmax(z)
    return {"loss": -jnp.sum(q * jnp.take_along_axis(log_p, classes, -1), -1), "pair": log_p[..., :2] ** 2}


def users(a: Arrays, **options: Any) -> Any:
    cap, temperature = a["logit_softcap"], a["temperature"]  # closed over

    def loss(z: jax.Array, classes: jax.Array, q: jax.Array) -> Any:
        return users_loss(cap * jnp.tanh(z / cap) / temperature, classes, q)

    return lossjax.linear_loss(loss, a["hidden"], a["weight"], listed(a), a["probabilities"], bias=a["bias"], **options)


HEADS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "entropy": (
        lambda a, **o: lossjax.linear_softmax_entropy(a["hidden"], a["weight"], **picked(a, "bias", *REDUCED), **o),
        lambda a, **o: lossjax.softmax_entropy(logits_of(a), **{n: a[n] for n in REDUCED if n in a}, **o),
    ),
    "kl": (two(lossjax.linear_softmax_kl_divergence), two_stored(lossjax.softmax_kl_divergence)),
    "js": (two(lossjax.linear_softmax_js_divergence, "mixture"), two_stored(lossjax.softmax_js_divergence, "mixture")),
    "sparse targets": (sparse, sparse_stored),
    "token statistics": (statistics, statistics_stored),
    "any loss": (users, lambda a, **o: users_loss(logits_of(a), listed(a), a["probabilities"])),
}
NEVER_REDUCED = ("token statistics", "any loss")
CASES = [(name, how) for name in HEADS for how in ("none", "mean") if how == "none" or name not in NEVER_REDUCED]


def total(results: Any) -> jax.Array:
    """A sum in which every result has a weight of its own."""
    parts = [jnp.ravel(part) for part in jax.tree.leaves(results)]
    weighed = [jnp.sum(jnp.cos(jnp.arange(1.0, 1 + part.size, dtype=part.dtype)) * part) for part in parts]
    return jnp.sum(jnp.stack(weighed))


def options_of(name: str, how: str) -> Arrays:
    masked = {} if name == "any loss" else {"where": jnp.asarray(MASK)}
    return masked if name in NEVER_REDUCED else masked | {"reduction": how}


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_is_the_function_of_the_logits(name: str, how: str) -> None:
    """Value, gradient in every float, forward mode, and a Hessian's product, by blocks of three rows, some masked.

    In float64. Both sides sum the same terms in another order: of C classes, H products, N rows, in three derivatives.
    """
    with jax.enable_x64(True):
        a, options = drawn(), options_of(name, how)
        random = np.random.default_rng(7)
        along = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape)), a)

        def everything(function: Callable[..., Any], more: Arrays) -> Any:
            def of(a: Arrays) -> Any:
                return total(function(a, **options, **more))

            (value, gradient), pushed = jax.jvp(jax.value_and_grad(of), (a,), (along,))
            return function(a, **options, **more), value, gradient, pushed, jax.jvp(of, (a,), (along,))[1]

        of_head, stored = HEADS[name]
        got = quick(lambda: everything(of_head, {"chunk_size": 3}))()
        want = quick(lambda: everything(stored, {}))()
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            size = max(1.0, float(jnp.max(jnp.abs(w))))
            np.testing.assert_allclose(g, w, rtol=0, atol=256 * CLASSES * 2.0**-53 * size)


@pytest.mark.parametrize(("name", "how"), [case for case in CASES if case[0] != "any loss"])
def test_what_a_masked_row_holds_is_not_felt(name: str, how: str) -> None:
    """Exactly, in value and gradient; and a tail, a second head and a row's probabilities are masked too."""
    a, options = drawn(np.float32), options_of(name, how)
    of = quick(jax.value_and_grad(lambda a: total(HEADS[name][0](a, chunk_size=3, **options))))

    def holding(bad: float) -> Any:
        own = {n: a[n] for n in ("hidden", "other_hidden", "probabilities", "weights")}
        return of(a | {n: jnp.where(MASK.reshape(*ROWS, *[1] * (x.ndim - 2)), x, bad) for n, x in own.items()})

    want = holding(0.0)
    assert all(np.isfinite(w).all() for w in jax.tree.leaves(want))
    for bad in (np.nan, np.inf):
        for got, w in zip(jax.tree.leaves(holding(bad)), jax.tree.leaves(want), strict=True):
            assert np.array_equal(got, w)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", HEADS)
def test_sixteen_bits_are_summed_in_thirty_two(name: str, dtype: Any) -> None:
    """The gradient is that of the same numbers in float32, rounded: once, and once where it is multiplied."""
    narrow = ("hidden", "weight", "bias", "other_hidden", "other_weight", "other_bias")
    a = drawn(np.float32)
    a |= {n: a[n].astype(dtype) for n in narrow}
    options = {} if name in NEVER_REDUCED else {"reduction": "mean"}

    def of(a: Arrays) -> Any:
        return total(HEADS[name][0](a, chunk_size=3, **options))

    found = quick(jax.value_and_grad(of))(a)
    wide = quick(jax.value_and_grad(of))({n: x.astype(jnp.float32) for n, x in a.items()})
    u = float(jnp.finfo(dtype).eps) / 2
    for n, g in found[1].items():
        assert g.dtype == a[n].dtype
        size = float(jnp.max(jnp.abs(wide[1][n])))
        np.testing.assert_allclose(g.astype(jnp.float32), wide[1][n], rtol=0, atol=4 * u * size + 2.0**-18)
    assert found[0].dtype == jnp.float32
    np.testing.assert_allclose(found[0], wide[0], rtol=2.0**-18, atol=2.0**-18)


# --- the verifier, and planted faults --------------------------------------------------------------------------------


def verdict(name: str, how: str, rows: int) -> bool:
    """Whether the verifier accepts a head's gradient in all arrays that are floats, at so many rows."""
    a = {n: x.reshape(-1, *x.shape[2:])[:rows] if x.shape[:2] == ROWS else x for n, x in drawn(np.float32).items()}
    names = ["hidden", "weight", "bias", *(n for n in a if n.startswith("other") and name in ("kl", "js"))]
    names += ["probabilities"] if name == "sparse targets" else []
    fixed = {n: x for n, x in a.items() if n not in names}
    options = {} if name in NEVER_REDUCED else {"reduction": how}

    def loss(*floats: Any) -> Any:
        return HEADS[name][0](fixed | dict(zip(names, floats, strict=True)), chunk_size=2, **options)

    given = (np.asarray(a[n]) for n in names)
    return bool(check(loss, *given, argnums=tuple(range(len(names))), checks=("rule", "cotangent")).ok)


@pytest.mark.covering
@pytest.mark.parametrize(("name", "how"), CASES)
def test_it_is_certified(name: str, how: str) -> None:
    assert verdict(name, how, 3)


def twice(gradients: Gradients, what: str) -> Gradients:
    """The gradients with a factor of ½ left out of one of them."""
    shared, hidden, own = gradients
    place = int(what.startswith("other"))

    def spoiled(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(2 * part if k == place else part for k, part in enumerate(parts))

    kind = what.removeprefix("other ")
    if kind == "hidden":
        return shared, spoiled(hidden), own
    if kind == "own":
        return shared, hidden, jax.tree.map(lambda g: 2 * g, own)
    return shared._replace(**{kind: spoiled(getattr(shared, kind))}), hidden, own


FAULTS = [
    ("entropy", "none", "hidden"), ("entropy", "mean", "weight"), ("entropy", "mean", "bias"),
    ("entropy", "mean", "row weights"), ("sparse targets", "mean", "own"), ("kl", "mean", "other hidden"),
    ("kl", "none", "other weight"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "how", "what"), FAULTS)
def test_a_head_without_a_factor_is_rejected(name: str, how: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_pass, pullback_of = head_sum._one_pass, head.pullback_of

    def wrong_sum(*args: Any) -> Any:
        if what == "row weights":
            return one_pass(*args[:-1], jnp.ones_like(args[-1]))
        losses, gradients = one_pass(*args)
        return losses, twice(gradients, what)

    def wrong_pullback(*args: Any) -> Any:
        outputs, pullback = pullback_of(*args)
        return outputs, lambda cotangents: twice(pullback(cotangents), what)

    monkeypatch.setattr(head_sum, "_one_pass", wrong_sum)
    monkeypatch.setattr(head, "pullback_of", wrong_pullback)
    jax.clear_caches()  # the right ones are compiled for these arguments
    try:
        assert not verdict(name, how, 3)
    finally:
        jax.clear_caches()


# --- the size of blocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", ["entropy", "kl", "sparse targets"])
def test_the_size_of_blocks_changes_nothing_but_the_order_of_sums(name: str, dtype: Any) -> None:
    """Of N rows, summed: each entry of ∂W is within a bound of the truth that no size of blocks enters.

    An entry of ∂/∂z is at most (1 + 2L)(p + q + t), with L the largest Σ|x||W|, which bounds every logit. The logits
    are off by H u L, what is made of them by 64u more; ∂W is a sum of N products, in 32 bits. With u' the roundoff of a
    narrower dtype, in which the factors of ∂W and ∂W are rounded, all of it is within

        (2u' + (N + 64 + 8 H L) u) Σ_rows |x| (1 + 2L)(p + q + t) + 2u' |∂W|.
    """
    rows, u = 384, 2.0**-24
    random = np.random.default_rng(1)
    positive = {"hidden": (rows, WIDTH), "other_hidden": (rows, OTHER)}
    of_any_sign = {"weight": (WIDTH, CLASSES), "other_weight": (OTHER, CLASSES)}
    a = {n: jnp.asarray(random.uniform(0.5, 1.5, s), dtype) for n, s in positive.items()}
    a |= {n: jnp.asarray(random.normal(size=s), dtype) for n, s in of_any_sign.items()}
    a |= {n: jnp.zeros(CLASSES, dtype) for n in ("bias", "other_bias")}
    a["probabilities"] = jnp.asarray(random.dirichlet(np.ones(3), rows)[:, :2], jnp.float32)

    def slopes(function: Callable[..., Any], a: Arrays, **options: Any) -> Any:
        return quick(jax.grad(lambda w: jnp.sum(function(a | {"weight": w}, reduction="sum", **options))))(a["weight"])

    of_head, stored = HEADS[name]
    found = {size: np.float64(slopes(of_head, a, chunk_size=size)) for size in (1, 7, rows)}
    with jax.enable_x64(True):
        wide = {n: jnp.float64(x) for n, x in a.items()}
        exact = np.asarray(slopes(stored, wide))
        heads = [(np.asarray(wide[f"{n}hidden"]), np.asarray(wide[f"{n}weight"])) for n in ("", "other_")]
        masses = sum(np.array(jax.nn.softmax(x @ w, axis=-1)) for x, w in heads)
    np.add.at(masses, (np.arange(rows)[:, None], np.asarray(listed(a))), 1.0)
    reach = max(float(np.max(np.abs(x) @ np.abs(w))) for x, w in heads)
    terms = np.abs(heads[0][0]).T @ masses * (1 + 2 * reach)
    narrow = float(jnp.finfo(dtype).eps) / 2 if dtype == jnp.bfloat16 else 0.0
    allowed = (2 * narrow + (rows + 64 + 8 * WIDTH * reach) * u) * terms + 2 * narrow * np.abs(exact)
    for size, got in found.items():
        assert np.all(np.abs(got - exact) <= allowed), f"{size}: {np.max(np.abs(got - exact) / allowed)} of the bound"


# --- memory, precision, refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "how"), [c for c in CASES if c[0] not in ("js", "any loss")])
def test_logits_are_never_stored(name: str, how: str) -> None:
    """Of the compiled value and gradient: a few arrays of a block, and one of each weight's size.

    The block's arrays are per head its logits, and what the loss makes of them: six at most in all of these losses.
    """
    rows, classes, size = 2048, 4096, 64
    shapes = {
        "hidden": (rows, WIDTH), "weight": (WIDTH, classes), "bias": (classes,), "other_hidden": (rows, OTHER),
        "other_weight": (OTHER, classes), "other_bias": (classes,), "weights": (rows,), "probabilities": (rows, 2),
    }  # fmt: skip
    a = {n: jax.ShapeDtypeStruct(shape, jnp.float32) for n, shape in shapes.items()}
    options = {} if name in NEVER_REDUCED else {"reduction": how}

    def of(a: Arrays) -> Any:
        return total(HEADS[name][0](a, chunk_size=size, **options))

    analysis = jax.jit(jax.value_and_grad(of)).lower(a).compile().memory_analysis()
    assert analysis is not None
    heads = 2 if name == "kl" else 1
    block, weights = 4 * size * classes, 4 * classes * (WIDTH + OTHER + 2)
    assert analysis.temp_size_in_bytes <= 6 * heads * block + 3 * weights + 4 * rows * 32
    assert 6 * analysis.temp_size_in_bytes <= 4 * rows * classes * 2 * heads  # logits and their gradient


@pytest.mark.parametrize("name", HEADS)
def test_the_precision_is_that_of_every_product(name: str) -> None:
    a = drawn(np.float32)

    def products(precision: Any) -> list[bool]:
        def of(a: Arrays) -> Any:
            return total(HEADS[name][0](a, precision=precision))

        text = str(jax.make_jaxpr(jax.value_and_grad(of))(a))
        return ["HIGHEST" in product[:300] for product in text.split("dot_general[")[1:]]

    assert len(products("highest")) >= 3
    assert all(products("highest"))
    assert not any(products(None))


def test_heads_of_different_vocabularies_are_refused() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 5))
    for function in (lossjax.linear_softmax_kl_divergence, lossjax.linear_softmax_js_divergence):
        with pytest.raises(ValueError, match="other_weight has 4 classes and weight 5, wanted the same vocabulary"):
            function(x, w, x, w[:, :4])
        with pytest.raises(ValueError, match="other_hidden has shape"):
            function(x, w, x[:1], w)
        with pytest.raises(TypeError, match="other_hidden is bfloat16 and other_weight float32"):
            function(x, w, x.astype(jnp.bfloat16), w)


def test_what_a_head_refuses() -> None:
    x, w = jnp.ones((2, 3)), jnp.ones((3, 5))
    with pytest.raises(ValueError, match=r"precision must be one that jax.numpy.matmul takes, got 'exactly'"):
        lossjax.linear_softmax_entropy(x, w, precision="exactly")
    with pytest.raises(ValueError, match="wanted one entry per row"):
        lossjax.linear_loss(jnp.sum, x, w)
    with pytest.raises(ValueError, match="a row argument has shape"):
        lossjax.linear_loss(lambda z, a: a, x, w, jnp.ones(3))
    with pytest.raises(ValueError, match=r"tokens has shape \(3,\), wanted \(2,\) or \(2, 'K'\)"):
        lossjax.linear_token_log_probs(x, w, jnp.zeros(3, int))
    with pytest.raises(ValueError, match="chunk_size must be at least 1 row"):
        lossjax.linear_softmax_entropy(x, w, chunk_size=0)


# --- what no other loss has ------------------------------------------------------------------------------------------


def test_tokens_and_classes_that_are_none_make_their_row_nan() -> None:
    """In value and gradient, and no other row; repeated classes and probabilities that are none too."""
    a = drawn(np.float32)
    x, w = a["hidden"][0], a["weight"]
    tokens = jnp.array([0, -1, CLASSES, 3, 6])
    pairs = jnp.array([[0, 1], [2, 2], [CLASSES, 1], [3, 4], [5, 6]])
    q = jnp.array([[0.5, 0.2], [0.5, 0.2], [0.5, 0.2], [0.5, -0.1], [0.9, 0.2]])

    def of(function: Callable[..., Any], *own: Any) -> Any:
        losses, pullback = jax.vjp(lambda x: function(x, w, *own, chunk_size=2), x)
        return np.isnan(losses), np.isnan(pullback(jnp.ones_like(losses))[0])

    sparse = functools.partial(lossjax.linear_softmax_cross_entropy_with_sparse_targets, tail=True)
    for (value, slope), bad in (
        (of(lossjax.linear_token_log_probs, tokens), [0, 1, 1, 0, 0]), (of(sparse, pairs, q), [0, 1, 1, 1, 1]),
    ):  # fmt: skip
        assert value.tolist() == [bool(b) for b in bad]
        assert np.array_equal(slope.any(-1), value)
        assert np.array_equal(slope.all(-1), value)


def test_a_user_s_loss_sees_no_row_that_is_none() -> None:
    """What fills up the last block are copies of a row: a gradient that is infinite at 0 stays finite."""
    a, scores = drawn(np.float32), jnp.arange(1.0, 11).reshape(ROWS)

    def of(x: jax.Array, scores: jax.Array) -> jax.Array:
        loss = lambda z, s: jnp.sqrt(s) * jnp.max(z, -1)  # noqa: E731
        return jnp.sum(lossjax.linear_loss(loss, x, a["weight"], scores, chunk_size=3))

    slopes = jax.grad(of, (0, 1))(a["hidden"], scores)
    assert all(np.isfinite(s).all() for s in slopes)
    assert np.all(slopes[1] != 0)
