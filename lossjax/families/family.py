r"""What every exponential family shares, and the one rule of their losses.

A canonical family has densities h(y) e^(⟨z, T(y)⟩ - A(z)) with natural parameter z and a strictly convex A, whose
derivatives are the moments: ∇A = E T, ∇²A = Cov T. So the negative log-likelihood A(z) - ⟨z, T(y)⟩ has

    ∂/∂z = E T - T(y),  the mean minus the target
    ∂²/∂z² = Cov T,     the Fisher information, whatever y is

and the divergence of two members is a Bregman divergence: KL(z₁ ‖ z₂) = D_A(z₂, z₁) = D_A*(μ₁, μ₂).
"""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, Unpack

from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.autodiff import closed_form
from lossjax._core.domains import Domain
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import with_options
from lossjax._core.reduction import CountedOptions, Reducer
from lossjax.numerics import times


@dataclasses.dataclass(frozen=True)
class Family(abc.ABC):
    """An exponential family. It is static and hashable, and its own parameters are Python numbers.

    The public methods take floats ``[..., *event]`` and compute in float32 or wider. Outside the domain their results
    and derivatives are NaN. A subclass defines the private methods, one per formula.
    """

    event: ClassVar[int] = 0
    """How many trailing axes of a natural parameter are one parameter: 0 (elementwise) or 1."""
    has_deviance: ClassVar[bool] = True
    """False where one observation is fitted infinitely well."""

    def log_partition(self, natural: ArrayLike) -> Array:
        """A(z), ``[...]``, without the base measure's constants."""
        return self._log_partition(self._natural("natural", natural))

    def mean(self, natural: ArrayLike) -> Array:
        """∇A(z) = E T(y), of the shape of z."""
        return self._mean(self._natural("natural", natural))

    def variance(self, natural: ArrayLike) -> Array:
        """∇²A(z) = Cov T(y), the Fisher information of z: of the shape of z, ``[..., n, n]`` for vectors of n."""
        return self._variance(self._natural("natural", natural))

    def domain(self, natural: ArrayLike) -> Array:
        """Whether z is the natural parameter of a member, ``[...]`` booleans."""
        array = checks.floating("natural", natural)
        self._check_event("natural", array)
        return self._inside(array)

    def sufficient_statistic(self, targets: ArrayLike) -> Array:
        """T(y), all that a loss needs to know of an observation."""
        array = checks.floating("targets", targets)
        return self._statistic(array.astype(checks.compute_dtype(array)))

    def _observations(self) -> Domain:
        return _hull(self)

    def _natural(self, name: str, value: ArrayLike) -> Array:
        array = checks.floating(name, value)
        self._check_event(name, array)
        return self._or_nan(array.astype(checks.compute_dtype(array)))

    def _or_nan(self, z: Array) -> Array:
        return nan_unless(self._inside(z), z)

    def _check_event(self, name: str, array: Array) -> None:
        if self.event:
            checks.class_axis(array, name, -1)

    def _check_observations(self, name: str, parameters: Array, targets: Array) -> None:
        """Raise ValueError unless the two shapes fit. For most families they must be equal."""
        self._check_event(name, parameters)
        remedy = "reshape one; nothing broadcasts here"
        checks.same_shape("targets", targets.shape, f"of {name}", parameters.shape, remedy)

    # --- the formulas, on arrays in the domain -----------------------------------------------------------------------

    @abc.abstractmethod
    def _log_partition(self, z: Array) -> Array: ...

    @abc.abstractmethod
    def _mean(self, z: Array) -> Array: ...

    @abc.abstractmethod
    def _variance(self, z: Array) -> Array: ...

    @abc.abstractmethod
    def _inside(self, z: Array) -> Array: ...

    @abc.abstractmethod
    def _supports(self, y: Array) -> Array:
        """Whether y lies in the closed convex hull of the observations."""

    @abc.abstractmethod
    def _divergence(self, p: Array, q: Array) -> Array:
        """D_A(q, p), the KL of the members with natural parameters p and q, from non-negative terms."""

    def _half_deviance(self, y: Array, mean: Array) -> Array:
        """D_A*(y, mean), from non-negative terms."""
        raise NotImplementedError

    def _statistic(self, y: Array) -> Array:
        return y

    def _loss(self, z: Array, y: Array) -> Array:
        """A(z) - ⟨z, T(y)⟩."""
        return self._log_partition(z) - times(y, z)

    def _mean_minus_target(self, z: Array, y: Array) -> Array:
        """E T - T(y), the derivative of the loss in z."""
        return self._mean(z) - self._statistic(y)

    def _in_targets(self, z: Array, y: Array) -> Array:
        """The derivative of the loss in y."""
        return -z


@with_options
def canonical_nll(
    family: Family,
    natural: ArrayLike,
    targets: ArrayLike,
    **options: Unpack[CountedOptions],
) -> Array:
    r"""Negative log-likelihood of an exponential family in its natural parameter: one theorem, many losses.

    .. math:: L = A(z) - \langle z, T(y)\rangle

    The base measure's constants, which no prediction changes, are left out: ½y² and ½ log 2π of the Gaussian, log y! of
    the Poisson law.

    Domain: z in the family's domain, targets in the closed convex hull of its observations (Bernoulli: [0, 1]); value
    and gradient are NaN outside. A categorical target of another mass is taken as Σ t_k (-log p̂_k).

    Gradient: :math:`\nabla A(z) - T(y)`, mean - target, in z; its derivative is the family's variance, which is the
    Fisher information. In the targets it is -z (categorical: -log p̂, which on the simplex is equivalent).

    Args:
      family: a member of ``lossjax.families``, such as ``families.Poisson()``.
      natural: ``[...]`` floats; ``[..., n]`` for families of vectors.
      targets: floats of the shape of ``natural`` (``GaussianUnknownVariance``: ``[...]``).
      **options: the options of :class:`CountedOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider. It can be negative.

    Accuracy: 8u of the terms' magnitudes; Bernoulli and categorical, whose terms are non-negative, 8u of the loss.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean, a family of another class.
      ValueError: shapes that do not agree, an unknown reduction.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lossjax import families
      >>> from lossjax import canonical_nll
      >>> z, y = jnp.array([0.0, 2.0]), jnp.array([3.0, 1.0])
      >>> print(jnp.round(jax.grad(lambda z: canonical_nll(families.Poisson(), z, y, reduction="sum"))(z), 4))
      [-2.      6.3891]

    Source: §4.1.2, §4.1.3 and theorem 4.1.5 at once; Barndorff-Nielsen, Information and Exponential Families, 1978.
    """
    z, y = _of_family(family, "natural", natural, targets)
    family._check_observations("natural", z, y)
    rows = z.shape[: z.ndim - family.event]
    reducer = Reducer.of(rows, options)
    dtype = checks.compute_dtype(z, y)
    y = family._observations().named("targets", y.astype(dtype), reducer.valid)
    z, y = hide(reducer.valid, z, -0.5), hide(reducer.valid, y, 0.5)  # Both numbers lie in the domain of every family.
    return reducer(_canonical((family, dtype), z, y))


def deviance(family: Family, means: ArrayLike, targets: ArrayLike) -> Array:
    r"""Twice the log-likelihood lost by a mean against the best one, which is the target itself.

    .. math:: d(\mu, y) = 2 D_{A^*}(y, \mu), \qquad \text{Poisson: } 2 (y \log(y/\mu) - y + \mu)

    Domain: means of members, targets in the closed convex hull of the observations; NaN outside.

    Gradient: :math:`-2 (y - \mu)/V(\mu)` in the means, V the variance at that mean; twice the difference of the natural
    parameters in the targets.

    Args:
      family: one of ``lossjax.families``, except ``GaussianUnknownVariance``.
      means: ``[...]`` floats, or ``[..., n]``.
      targets: floats of the same shape.

    Returns:
      The deviance, ``[...]``, in float32 or wider; 0 where they agree and never negative. The Gaussian's is the squared
      error in units of the variance.

    Accuracy: 16u relatively, also near y = μ.

    Raises:
      TypeError: arguments that are not floats, a family without a deviance.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import families
      >>> from lossjax.families import deviance
      >>> print(deviance(families.Gaussian(), jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0])))
      [0. 9.]

    Source: equation (4.1.2) with φ = A*; Nelder and Wedderburn, 1972.
    """
    mean, y = _of_family(family, "means", means, targets)
    if not family.has_deviance:
        raise TypeError(f"family must have a deviance; that of {family} is infinite: one observation fits perfectly")
    family._check_observations("means", mean, y)
    dtype = checks.compute_dtype(mean, y)
    mean, y = mean.astype(dtype), family._observations().named("targets", y.astype(dtype))
    possible = family._supports(y) & family._supports(mean)  # Means lie in the hull of the observations too.
    return 2 * family._half_deviance(nan_unless(possible, y), mean)


def kl_divergence(family: Family, natural_p: ArrayLike, natural_q: ArrayLike) -> Array:
    r"""Kullback-Leibler divergence between two members of a family, from their natural parameters.

    .. math:: \mathrm{KL}(p\|q) = D_A(z_q, z_p) = A(z_q) - A(z_p) - \langle \nabla A(z_p), z_q - z_p\rangle

    Domain: parameters in the family's domain; NaN outside.

    Gradient: :math:`\mu_q - \mu_p` in z_q, :math:`-\nabla^2 A(z_p)(z_q - z_p)` in z_p.

    Args:
      family: one of ``lossjax.families``.
      natural_p: ``[...]`` floats, or ``[..., n]``: the member that the mean is taken over.
      natural_q: floats of the same shape.

    Returns:
      The divergence in nats, ``[...]``, in float32 or wider; 0 where they agree and never negative.

    Accuracy: a sum of non-negative terms, 32u relatively, also near p = q (Bernoulli and categorical: 67u where logits
    are 16 apart; ``GaussianUnknownVariance``: 32u(1 + (\|μ_p\| + \|μ_q\|)/σ_q), as a rounding of z moves μ).

    Raises:
      TypeError: arguments that are not floats, a family of another class.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import families
      >>> print(f"{families.kl_divergence(families.Gaussian(), jnp.array(1.0), jnp.array(3.0)):.1f}")
      2.0

    Source: theorem 4.1.4 for every family; with Gaussians of one variance it is the squared error (§4.1.2).
    """
    if not isinstance(family, Family):
        raise TypeError(f"family must be one of lossjax.families, such as families.Poisson(), got {family!r}")
    p, q = checks.floating("natural_p", natural_p), checks.floating("natural_q", natural_q)
    checks.same_shape("natural_q", q.shape, "of natural_p", p.shape, "use jnp.broadcast_to, or jax.vmap")
    family._check_event("natural_p", p)
    dtype = checks.compute_dtype(p, q)
    return family._divergence(*(family._or_nan(a.astype(dtype)) for a in (p, q)))


def _of_family(family: Family, name: str, predictions: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    if not isinstance(family, Family):
        raise TypeError(f"family must be one of lossjax.families, such as families.Poisson(), got {family!r}")
    return checks.floating(name, predictions), checks.floating("targets", targets)


@functools.cache
def _hull(family: Family) -> Domain:
    return Domain(family._supports, f"in the convex hull of the observations of {family}")


Options = tuple[Family, Any]
"""The family, and the dtype to compute in."""


def _undefined_unless_possible(options: Options, z: Array, y: Array) -> tuple[Array, Array]:
    """Convert both to the dtype, and make z NaN where it or the observation is not one of the family's."""
    family, dtype = options
    z, y = z.astype(dtype), y.astype(dtype)
    return nan_unless(family._inside(z) & family._supports(y), z), y


def _per_row(rows: Array, array: Array) -> Array:
    """One number per row, with the axes that make it broadcast with an array of these rows."""
    return rows.reshape(rows.shape + (1,) * (array.ndim - rows.ndim))


def _canonical_forward(options: Options, natural: Array, targets: Array) -> tuple[Array, Any]:
    return options[0]._loss(*_undefined_unless_possible(options, natural, targets)), (options, natural, targets)


def _canonical_backward(saved: Any, cotangent: Array) -> tuple[None, Array, Array]:
    options, natural, targets = saved
    family = options[0]
    z, y = _undefined_unless_possible(options, natural, targets)
    in_z, in_y = family._mean_minus_target(z, y), family._in_targets(z, y)
    return None, _per_row(cotangent, in_z) * in_z, _per_row(cotangent, in_y) * in_y


_canonical = closed_form(_canonical_forward, _canonical_backward)
"""``((family, dtype), natural, targets) -> A(z) - ⟨z, T(y)⟩``."""


def positive_number(family: str, name: str, value: Any) -> None:
    """Check a family's own parameter. It is static: an array or a traced number is refused by name."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(
            f"{name} of {family} must be a Python number, got {value!r}; the loss leaves out constants that depend on "
            "it, so its derivative there would not be the likelihood's"
        )
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} of {family} must be positive and finite, got {value}")
