r"""Fisher's information of categorical distributions (chapter 4.1, §4.1.5): matrix, products, pseudo-inverse.

In logits it is J(p) = diag(p) - p pᵀ with p = softmax(z). This matrix is the Hessian of every softmax cross-entropy,
part of the Gauss-Newton matrix of every model of logits, and what the natural gradient divides by.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax._softmax import functions, row_statistics
from lossjax._softmax.row_sum import sum_over_classes
from lossjax.geometry._vectors import vectors
from lossjax.numerics import exact_difference

Coordinates = Literal["logits", "ambient", "mean", "natural", "sphere"]


def fisher_information(p: ArrayLike, coordinates: Coordinates = "logits") -> Array:
    r"""Fisher's information matrix of a categorical distribution, in one of five coordinate systems.

    .. math::
        \text{logits: } \operatorname{diag}(p) - p p^\top \qquad \text{ambient: } \operatorname{diag}(1/p) \qquad
        \text{mean } (p_1, \ldots, p_{n-1}): \operatorname{diag}(1/p_i) + \mathbf{1}\mathbf{1}^\top/p_n

    In natural coordinates (logits with :math:`z_n = 0`) it is the logits' matrix without its last row and column, the
    inverse of the mean's. On the sphere (:math:`\xi = 2\sqrt p`, of length 2) it is the identity at every point.

    Domain: p on the simplex, in its interior for "ambient" and "mean". Two of the matrices hold on the tangent space:
    "ambient" for vectors that sum to 0, "sphere" for vectors orthogonal to ξ.

    Gradient: JAX differentiates these formulas.

    Args:
      p: ``[..., n]`` floats, a distribution.
      coordinates: "logits" (singular: it annihilates the constants), "ambient", "mean" or "natural" (n >= 2), "sphere".

    Returns:
      ``[..., n, n]``, or ``[..., n - 1, n - 1]`` for "mean" and "natural", in float32 or wider.

    Accuracy: each entry within 8u. For the largest p, 1 - p is the sum of the others: nothing cancels.

    Raises:
      TypeError: p that is not floating-point.
      ValueError: no class, a single one where two are needed, coordinates of another name.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import fisher_information
      >>> print(fisher_information(jnp.array([0.5, 0.25, 0.25])))
      [[ 0.25   -0.125  -0.125 ]
       [-0.125   0.1875 -0.0625]
       [-0.125  -0.0625  0.1875]]

    Source: §4.1.5, I(p); Amari, Information Geometry and Its Applications (2016), §2.
    """
    if coordinates not in (names := get_args(Coordinates)):
        raise ValueError(f"coordinates must be one of {', '.join(map(repr, names))}, got {coordinates!r}")
    (p,) = vectors(p=p)
    if coordinates in ("mean", "natural") and p.shape[-1] < 2:
        raise ValueError(f"p has 1 class, wanted at least 2 in {coordinates} coordinates (n - 1 of them)")
    if coordinates == "sphere":
        return jnp.broadcast_to(jnp.eye(p.shape[-1], dtype=p.dtype), (*p.shape, p.shape[-1]))
    if coordinates == "ambient":
        return _with_diagonal(1 / p, jnp.zeros_like(p[..., :, None] * p[..., None, :]))
    if coordinates == "mean":
        free, last = p[..., :-1], p[..., -1:, None]
        ones = jnp.ones_like(free)
        return _with_diagonal(1 / free, ones[..., :, None] * ones[..., None, :] / last)
    covariance = -p[..., :, None] * p[..., None, :]
    covariance = _with_diagonal(p * _complement(p), covariance, add=False)
    return covariance if coordinates == "logits" else covariance[..., :-1, :-1]


def softmax_fisher_vector_product(logits: ArrayLike, v: ArrayLike) -> Array:
    r"""Fisher's information of softmax in logits, times a vector, without the matrix.

    .. math:: F v = J(p)\,v = p \circ (v - \langle p, v\rangle), \qquad p = \operatorname{softmax}(z)

    It is the Hessian of every softmax cross-entropy, hence also its Gauss-Newton matrix.

    Domain: any logits that define a softmax (-inf removes a class), finite v.

    Gradient: true in both arguments; the product is linear and symmetric in v.

    Args:
      logits: ``[..., n]`` floats.
      v: ``[..., n]`` floats, the same shape.

    Returns:
      ``[..., n]``, in float32 or wider.

    Accuracy: within 16u·p_i·(|v_i - v_m| + Σ_j p_j|v_j - v_m|), m the most probable class: confident rows included.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import softmax_fisher_vector_product
      >>> print(softmax_fisher_vector_product(jnp.array([0.0, 0.0]), jnp.array([1.0, 3.0])))
      [-0.5  0.5]

    Source: §4.1.5; theorem 4.1.5 differentiated once more.
    """
    z, v = vectors(logits=logits, v=v)
    # As functions.fisher_product, which is for backward passes: the value of a public function must be differentiable
    # without any rule, too.
    p = functions.softmax(z)
    return p * functions.centered_by(p, v - sum_over_classes(p * v))


def softmax_gauss_newton_vector_product(logits_function: Callable[[Any], Array], parameters: Any, vector: Any) -> Any:
    r"""Gauss-Newton (and Fisher) matrix of any model under a softmax cross-entropy, summed over rows, times a vector.

    .. math:: G v = \sum_{\text{rows}} D^\top J(p)\,D v, \qquad D = \partial z/\partial\theta, \quad
              p = \operatorname{softmax}(z(\theta))

    It takes one forward pass, one product with D, one with J(p), and one with Dᵀ. No matrix is formed. G is positive
    semi-definite. The cross-entropy's Hessian is :math:`G + \sum_k (\hat p - t)_k \nabla^2 z_k`, so the two are equal
    for logits that are linear in the parameters.

    Domain: a differentiable function and its parameters; logits as :func:`softmax_fisher_vector_product` takes them.

    Gradient: true in the parameters and the vector, as far as JAX can differentiate the function; linear in the vector.

    Args:
      logits_function: from the parameters to logits ``[..., n]``. Close over the data.
      parameters: a pytree of float arrays.
      vector: the same pytree, arrays of the same shapes (converted to the dtypes of the parameters).

    Returns:
      G v, the same pytree in the parameters' shapes and dtypes, in nats per unit of parameter.

    Accuracy: that of the model's own derivatives; the product with J(p) between them is within the bound of
      :func:`softmax_fisher_vector_product`.

    Raises:
      TypeError: leaves that are not floating-point, a function that does not return one array of floats.
      ValueError: trees or shapes that do not agree, logits without a class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import softmax_gauss_newton_vector_product
      >>> x = jnp.array([[1.0, 2.0]])
      >>> print(softmax_gauss_newton_vector_product(lambda w: x @ w, jnp.zeros((2, 2)), jnp.eye(2)))
      [[-0.25  0.25]
       [-0.5   0.5 ]]

    Source: §4.1.5, I(p) of a model; Schraudolph (2002); Martens, New Insights on the Natural Gradient Method (2020).
    """
    parameters, vector = _tangent_of(parameters, vector)
    logits, push = jax.linearize(logits_function, parameters)
    if not isinstance(logits, Array):
        raise TypeError(f"logits_function must return one array of logits, got {jax.tree.structure(logits)}")
    checks.floating("logits_function(parameters)", logits)
    (result,) = jax.linear_transpose(push, parameters)(
        softmax_fisher_vector_product(logits, push(vector)).astype(logits.dtype)
    )
    return result


def natural_gradient(logits: ArrayLike, gradient: ArrayLike) -> Array:
    r"""The gradient in Fisher's metric: the direction of steepest descent, whatever the coordinates.

    .. math:: F^+ g = C \operatorname{diag}(1/p)\, C g, \qquad F = J(p), \quad p = \operatorname{softmax}(z),
              \quad C = I - \tfrac1n \mathbf{1}\mathbf{1}^\top

    For the gradient of a cross-entropy, :math:`g = \hat p - t`, it is :math:`1 - t/\hat p` less its mean.

    Domain: finite logits and p > 0. The sum of g is removed, because no change of the distribution depends on it. Where
    the sum is nothing but rounding, as in the gradient of a loss, that rounding is divided by p like the rest. A row in
    which g/p overflows (from a gap of 88 in float32) is inf or NaN.

    Gradient: :math:`F^+ c` in g for a cotangent c, and :math:`(\textstyle\sum s) p - s` in the logits, with
    :math:`s = C c \circ C g / p`.

    Args:
      logits: ``[..., n]`` floats.
      gradient: ``[..., n]`` floats, the same shape: the derivative of a loss in the logits.

    Returns:
      A direction in logits that sums to 0, ``[..., n]``, in float32 or wider.

    Accuracy: within 16u(T_i + mean T) with T_i = (\|g_i\| + mean \|g\|)/p_i, at every scale of the logits.

    Raises:
      TypeError: arguments that are not floating-point.
      ValueError: shapes that do not agree, or no class.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.geometry import natural_gradient
      >>> print(natural_gradient(jnp.zeros(2), jnp.array([-0.5, 0.5])))  # 1 - t/p̂ = (-1, 1)
      [-1.  1.]

    Source: Amari, Natural Gradient Works Efficiently in Learning (1998); §4.1.5, I(p) inverted.
    """
    z, g = vectors(logits=logits, gradient=gradient)
    return _centered(_centered(g) * _reciprocal(z))


# --- the steps -------------------------------------------------------------------------------------------------------


def _with_diagonal(diagonal: Array, matrix: Array, *, add: bool = True) -> Array:
    """``matrix`` with ``diagonal`` added to its diagonal, or in its place. A product with the identity has inf·0."""
    on = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=bool), matrix.shape)
    return jnp.where(on, diagonal[..., None, :] + (matrix if add else 0), matrix)


def _complement(p: Array) -> Array:
    """``1 - p`` of a distribution; at its largest entry, the sum of the others. Its derivative is that of 1 - p."""
    largest = jnp.argmax(p, axis=-1, keepdims=True)
    at_largest = lax.broadcasted_iota(largest.dtype, p.shape, p.ndim - 1) == largest
    others = jnp.sum(jnp.where(at_largest, 0, p), axis=-1, keepdims=True)
    return lax.stop_gradient(jnp.where(at_largest, others, 1 - p)) - (p - lax.stop_gradient(p))


def _tangent_of(parameters: Any, vector: Any) -> tuple[Any, Any]:
    """Both as trees of arrays, with the vector in the parameters' dtypes. An error names the leaf."""
    structure = jax.tree.structure(parameters)
    if jax.tree.structure(vector) != structure:
        raise ValueError(
            f"vector is the tree {jax.tree.structure(vector)}, wanted {structure} of parameters; "
            "make it by jax.tree.map over parameters"
        )

    def leaf(path: Any, value: ArrayLike, along: ArrayLike) -> tuple[Array, Array]:
        place = jax.tree_util.keystr(path)
        point, tangent = checks.floating(f"parameters{place}", value), checks.floating(f"vector{place}", along)
        remedy = "give one entry a parameter"
        checks.same_shape(f"vector{place}", tangent.shape, f"of parameters{place}", point.shape, remedy)
        return point, tangent.astype(point.dtype)

    pairs = jax.tree_util.tree_map_with_path(leaf, parameters, vector)
    return jax.tree.transpose(structure, jax.tree.structure((0, 0)), pairs)


# X = C diag(1/p) C is the Moore-Penrose inverse of F, because it meets Penrose's four conditions. F 1 = 0 gives
# F C = F and F diag(1/p) = I - p 1ᵀ. So
#
#     F X = (I - p 1ᵀ) C = C - p (1ᵀC) = C        X F = (F X)ᵀ = C        (both are symmetric)
#     F X F = C F = F                             X F X = C X = X


def _centered(x: Array) -> Array:
    return x - jnp.mean(x, axis=-1, keepdims=True)


def _reciprocal_forward(z: Array) -> tuple[Array, Any]:
    # 1/p_k = e^(m - z_k) Σ e^(z - m), with the rounding error of the gap folded back in as e^(d + e) = e^d (1 + e).
    # (In e^(-log p), the rounding of log p would make an error of |log p| units. ``row_sum.shifted_exponential`` does
    # not serve here: its exponent is z - m, which never exceeds 0.)
    rows = row_statistics.row_statistics(z)
    gap, error = exact_difference(rows.maximum, z)
    return jnp.exp(gap) * (1 + error) * rows.total(), (z, rows.stopped())


def _reciprocal_backward(saved: Any, cotangent: Array) -> tuple[Array]:
    # d(1/p) = -(1/p) d log p, and the pullback of log p takes a cotangent s to s - (Σs) p.
    z, rows = saved
    return (functions.cross_entropy_slope(z, rows, cotangent * _reciprocal(z)),)


_reciprocal = closed_form(_reciprocal_forward, _reciprocal_backward)
"""``z -> 1/softmax(z)``."""
