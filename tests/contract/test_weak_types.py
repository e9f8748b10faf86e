"""Arguments without a dtype of their own, as Python numbers, are computed in the dtype that JAX gives them.

Under ``jax_enable_x64`` that is float64 where nothing else is given. Every public function is traced, and its program
must not hold a step in another width, in value or gradient: nothing is compiled.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax import families, geometry
from lossjax.verify._check.programs import narrowest
from lossjax.verify.samples import bound, loss_of
from lossjax.verify.signatures import KINDS, SIGNATURES

ROWS, CLASSES = 3, 4
VECTORS, ROW, ONE = (ROWS, CLASSES), (ROWS,), ()
FAMILIES = (
    families.Gaussian(), families.Bernoulli(), families.Poisson(), families.Exponential(), families.Gamma(2.0),
    families.NegativeBinomial(2.0), families.InverseGaussian(), families.Categorical(),
    families.GaussianUnknownVariance(),
)  # fmt: skip
GENERATORS = (
    geometry.SquaredEuclidean(), geometry.NegativeEntropy(), geometry.BurgEntropy(), geometry.BernoulliEntropy(),
    geometry.Exponential(), geometry.Softplus(), geometry.LogSumExp(), geometry.Tsallis(1.5), geometry.Tsallis(2.0),
)  # fmt: skip
METHODS = ("value", "gradient", "conjugate", "conjugate_gradient")

Function = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""A name; the function; the shapes of its float arguments, and integers as they are."""


def _losses() -> list[Function]:
    rows: list[Function] = []
    random = np.random.default_rng(0)
    for name, signature in SIGNATURES.items():
        shapes = [
            KINDS[kind].draw(random, (ROWS, CLASSES))
            if KINDS[kind].integer
            else KINDS[kind].draw(random, (ROWS, CLASSES)).shape
            for kind in signature.kinds
        ]
        rows.append((name, bound(loss_of(name), *signature.options), tuple(shapes)))
    labels, names = np.zeros(ROW, np.int32), ("class_weights", "z_loss", "logit_softcap", "temperature")
    hidden, vectors = (ROWS, 2), VECTORS
    return [
        *rows,
        ("all options", bound(lossjax.softmax_cross_entropy_with_integer_labels, *names, reduction="mean"),
         (vectors, labels, (CLASSES,), ONE, ONE, ONE)),
        ("weighted mean", bound(lossjax.mean_squared_error, "weights"), (vectors, vectors, vectors)),
        ("pos_weight", bound(lossjax.sigmoid_cross_entropy, "pos_weight"), (vectors, vectors, ONE)),
        ("integer delta", functools.partial(lossjax.huber_loss, delta=jnp.int32(2)), (vectors, vectors)),
        ("accuracy", lossjax.accuracy, (vectors, labels)),
        ("hvp", lossjax.softmax_cross_entropy_hvp, (vectors, labels, vectors)),
        ("linear", bound(lossjax.linear_softmax_cross_entropy, "bias"), (hidden, (2, CLASSES), labels, (CLASSES,))),
    ]  # fmt: skip


def _families() -> list[Function]:
    rows: list[Function] = []
    for family in FAMILIES:
        pairs = type(family) is families.GaussianUnknownVariance
        shape, observed = ((ROWS, 2), ROW) if pairs else (VECTORS, VECTORS)
        rows += [(f"{family}.{m}", getattr(family, m), (shape,)) for m in ("log_partition", "mean", "variance")]
        rows += [
            (f"{family}.sufficient_statistic", family.sufficient_statistic, (observed,)),
            (f"{family} nll", functools.partial(families.canonical_nll, family), (shape, observed)),
            (f"{family} kl", functools.partial(families.kl_divergence, family), (shape, shape)),
        ]
        if family.has_deviance:
            rows.append((f"{family} deviance", functools.partial(families.deviance, family), (shape, shape)))
    return rows


def _geometry() -> list[Function]:
    g, v, square, half = geometry, VECTORS, (CLASSES, CLASSES), (2, CLASSES)
    rows: list[Function] = []
    for generator in GENERATORS:
        rows += [(f"{generator}.{m}", getattr(generator, m), (v,)) for m in METHODS if hasattr(generator, m)]
        rows.append((f"{generator} divergence", functools.partial(g.bregman_divergence, generator), (v, v)))
        if hasattr(generator, "conjugate"):
            rows.append((f"{generator} loss", functools.partial(g.fenchel_young_loss, generator), (v, v)))
    rows += [(f"Mahalanobis.{m}", lambda a, x, m=m: getattr(g.Mahalanobis(a), m)(x), (square, v)) for m in METHODS]
    names = ("aitchison_add", "aitchison_distance", "aitchison_inner_product", "fisher_rao_distance", "fisher_rao_exp",
             "fisher_rao_log", "natural_gradient", "softmax_fisher_vector_product", "r_squared")  # fmt: skip
    rows += [(name, getattr(g, name), (v, v)) for name in names]
    names = ("centered_log_ratio", "project_to_simplex", "entmax", "projection_matrix")
    rows += [(name, getattr(g, name), (v,)) for name in names]
    rows += [(c, functools.partial(g.fisher_information, coordinates=c), (v,)) for c in ("logits", "ambient", "mean")]
    return [
        *rows,
        ("entropy_contour", g.entropy_contour, (ROW, v)), ("project_to_affine", g.project_to_affine, (v, half, (2,))),
        ("project_to_ball", g.project_to_ball, (v, ONE)), ("project_to_box", g.project_to_box, (v, ONE, v)),
        ("project_to_half_space", g.project_to_half_space, (v, (CLASSES,), ONE)),
        ("i_projection", g.i_projection, (v, half, (ROWS, 2))), ("m_projection", g.m_projection, (v, half, v)),
        ("project_convex", lambda y: g.project_convex(y, [g.project_to_simplex, g.project_to_ball]), (v,)),
        ("aitchison_scale", g.aitchison_scale, (v, ROW)), ("fisher_rao_geodesic", g.fisher_rao_geodesic, (v, v, ROW)),
        ("least_squares", g.least_squares, (v, ROW)), ("orthogonal_projection", g.orthogonal_projection, (v, ROW)),
        ("gaussian distance", g.gaussian_fisher_rao_distance, (v, v, v, v)),
        ("gauss newton", lambda w, d: g.softmax_gauss_newton_vector_product(lambda x: 2 * x, w, d), (v, v)),
        ("sectional", lambda x, a, b: g.sectional_curvature(lambda x: jnp.diag(1 + x * x), x, a, b),
         ((CLASSES,),) * 3),
    ]  # fmt: skip


FUNCTIONS = [*_losses(), *_families(), *_geometry()]


def narrowest_step(function: Callable[..., Any], shapes: tuple[Any, ...], *, weak: bool) -> Any:
    """The narrowest floats in the program of the value and all gradients of float64 arguments."""
    positions = tuple(i for i, shape in enumerate(shapes) if isinstance(shape, tuple))

    def total(*arguments: Any) -> Any:
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(function(*arguments)))

    arguments = [jax.ShapeDtypeStruct(s, np.float64, weak_type=weak) if isinstance(s, tuple) else s for s in shapes]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return narrowest(jax.make_jaxpr(jax.value_and_grad(total, positions))(*arguments))


@pytest.mark.parametrize(("function", "shapes"), [pytest.param(f, s, id=name) for name, f, s in FUNCTIONS])
def test_every_step_is_as_wide_as_the_arguments(function: Callable[..., Any], shapes: tuple[Any, ...]) -> None:
    assert narrowest_step(function, shapes, weak=True) == np.float64


@pytest.mark.parametrize("weak", [False, True])
def test_a_narrow_step_is_caught(weak: bool) -> None:
    def square(x: jax.Array) -> jax.Array:
        return (x.astype(np.float32 if x.weak_type else np.float64) ** 2).astype(np.float64)

    assert narrowest_step(square, (VECTORS,), weak=weak) == (np.float32 if weak else np.float64)


def test_numbers_without_a_dtype() -> None:
    """However they come to be; beside an argument that has a dtype, they follow it."""
    mask, loss = jnp.arange(3) < 1, lossjax.squared_error
    with jax.enable_x64(True):
        for a, b in ((0.3, 0.1), (jnp.full(3, 0.3), jnp.full(3, 0.1)), (jnp.where(mask, 0.3, 0.7), jnp.full(3, 0.1))):
            gradient = jax.grad(lambda a, b=b: jnp.sum(loss(a, b)))(a)
            assert gradient.dtype == loss(a, b).dtype == np.float64
            assert abs(float(jnp.ravel(gradient)[0]) - 0.4) < 1e-16
        assert loss(jnp.float32(0.3), 0.1).dtype == loss(0.3, jnp.float16(0.1)).dtype == np.float32
        assert loss(0.3, jnp.float64(0.1)).dtype == np.float64
    assert loss(0.3, 0.1).dtype == np.float32


@pytest.mark.parametrize("name", [name for name, signature in SIGNATURES.items() if signature.options])
def test_an_option_may_be_an_integer(name: str) -> None:
    """Of Python's, of NumPy's or an array: 1 is as good as 1.0, and changes no dtype."""
    signature, random = SIGNATURES[name], np.random.default_rng(0)
    drawn = [KINDS[kind].draw(random, VECTORS) for kind in signature.arguments]
    arguments = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in drawn]
    integers = {
        option: KINDS[kind].draw(random, VECTORS) for option, kind in signature.options.items() if KINDS[kind].integer
    }

    def result(one: Any) -> Any:
        options = dict.fromkeys(signature.options, one) | integers
        return jax.eval_shape(lambda *given: loss_of(name)(*given, **options), *arguments)

    for one in (1, np.int32(1), jnp.int32(1)):
        assert result(one) == result(1.0), one


def test_references_may_be_integers() -> None:
    """0 is what their docstrings give for no reference."""
    answers = jnp.float32([-1, -2]), jnp.float32([-3, -1])
    for loss in (lossjax.preference.dpo_loss, lossjax.preference.ipo_loss):
        np.testing.assert_array_equal(loss(*answers, 0, 0), loss(*answers, 0.0, 0.0))
