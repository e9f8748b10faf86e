"""Negative log-likelihoods of continuous or counted targets: §4.1.2, the squared error as a Gaussian likelihood."""

import functools
from typing import Any, Unpack

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lossjax._core import checks
from lossjax._core.domains import AMOUNTS
from lossjax._core.elementwise import EntryOptions, elementwise, pair
from lossjax._core.masks import hide, nan_unless
from lossjax._core.options import with_options
from lossjax._core.plain import with_plain
from lossjax._rules import likelihood as rules
from lossjax._rules.likelihood import normalizer, student_t


@with_plain
@with_options
def gaussian_nll(
    mean: ArrayLike, targets: ArrayLike, *, log_variance: ArrayLike = 0.0, **options: Unpack[EntryOptions]
) -> Array:
    r"""Negative log-likelihood of a Gaussian, elementwise; the variance may be fixed, learned, or heteroscedastic.

    .. math:: L = \tfrac12\left[\log 2\pi + s + (\mu - y)^2 e^{-s}\right], \quad s = \log \sigma^2

    For one fixed variance it is an increasing affine function of the squared error: the sum over N entries is
    N·MSE/(2σ²) + (N/2) log 2πσ² (theorem 4.1.1). It may be negative, for a density may exceed 1. With a learned
    variance it is unbounded below where the squared error can be 0: bound s, or add a prior.

    Domain: all real numbers.

    Gradient: (μ - y) e^{-s} in the mean, its negative in the targets, ½(1 - (μ - y)² e^{-s}) in s. The loss is
    not convex in (μ, s) jointly; its Fisher information is diag(e^{-s}, ½).

    Args:
      mean: ``[...]`` floats, the predicted mean μ.
      targets: ``[...]`` floats of the shape of ``mean``.
      log_variance: s, a scalar, or an array that broadcasts to the shape of ``mean`` (predict it to let the noise
        vary).
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, ½ log 2π included, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the magnitudes of the three terms; (μ - y) e^{-s/2} is squared, so that e^{-s} alone never
    overflows.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not fit, an unknown reduction.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import gaussian_nll
      >>> print(gaussian_nll(jnp.array([0.0, 1.0]), jnp.array([0.0, 3.0]), log_variance=0.0))
      [0.9189385 2.9189386]

    Source: §4.1.2, equation (4.1.1), theorem 4.1.1.
    """
    center, target = pair("mean", mean, targets)
    parameters = {"log_variance": checks.number_or_array("log_variance", log_variance)}
    return elementwise(rules.gaussian_nll, center, target, parameters, **options)


@with_plain
@with_options
def laplace_nll(
    location: ArrayLike, targets: ArrayLike, *, log_scale: ArrayLike = 0.0, **options: Unpack[EntryOptions]
) -> Array:
    r"""Negative log-likelihood of a Laplace distribution, elementwise: the absolute error is a case of it.

    .. math:: L = \log 2 + s + |\mu - y|\, e^{-s}, \quad s = \log b

    Domain: all real numbers.

    Gradient: sign(μ - y) e^{-s} in the location (0 at μ = y, a subgradient), its negative in the targets,
    1 - \|μ - y\| e^{-s} in s.

    Args:
      location: ``[...]`` floats, the predicted median μ.
      targets: ``[...]`` floats of the shape of ``location``.
      log_scale: s, a number, or an array that broadcasts to the shape of ``location``.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, log 2 included, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the magnitudes of the three terms.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import laplace_nll
      >>> print(laplace_nll(jnp.array([0.0, 1.0]), jnp.array([0.0, 3.0])))
      [0.6931472 2.6931472]

    Source: §4.1.2 (Laplace noise gives the absolute error).
    """
    center, target = pair("location", location, targets)
    parameters = {"log_scale": checks.number_or_array("log_scale", log_scale)}
    return elementwise(rules.laplace, center, target, parameters, **options)


@with_plain
@with_options
def student_t_nll(
    location: ArrayLike,
    targets: ArrayLike,
    *,
    degrees_of_freedom: ArrayLike,
    log_scale: ArrayLike = 0.0,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Negative log-likelihood of Student's t distribution, elementwise: the further an outlier, the less it pulls.

    .. math:: L = \tfrac{\nu+1}{2} \log\left(1 + \tfrac{r^2 e^{-2s}}{\nu}\right) + s + \tfrac12 \log \nu\pi
              + \log\Gamma(\tfrac\nu2) - \log\Gamma(\tfrac{\nu+1}2), \quad r = \mu - y

    Domain: all real numbers, ν > 0. As ν grows it tends to the Gaussian's negative log-likelihood, without loss of
    digits, and is that at ν = ∞.

    Gradient: with w = r²e^{-2s}/ν and q = w/(1+w): (ν+1) q/r in the location, its negative in the targets, 1 - (ν+1) q
    in s; true in ν.

    Args:
      location: ``[...]`` floats, the predicted centre μ.
      targets: ``[...]`` floats of the shape of ``location``.
      degrees_of_freedom: ν, a number > 0, or an array that broadcasts to the shape of ``location``.
      log_scale: s, a number, or an array that broadcasts to the shape of ``location``.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, all constants included, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 16u of the magnitudes of the terms, at any ν. Those of the slope in ν are ½(log(1 + w) - q), q/2ν and the
    slope of the log Γ, which together are 0 at a residual of about 1.55 scales.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, a ν that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import student_t_nll
      >>> print(f"{student_t_nll(jnp.array(0.0), jnp.array(1.0), degrees_of_freedom=1.0):.5f}")  # log 2π
      1.83788

    Source: Lange, Little and Taylor (1989); §4.1.2 (noise that is not Gaussian).
    """
    center, target = pair("location", location, targets)
    freedom = checks.positive("degrees_of_freedom", degrees_of_freedom)
    scale = checks.number_or_array("log_scale", log_scale)
    checks.broadcastable("degrees_of_freedom", freedom.shape, center.shape)
    valid = checks.mask("where", options.get("where"), center.shape)
    if valid is not None and freedom.ndim:  # the normalizer is formed before the rule, which hides what it is given
        freedom = hide(valid, jnp.broadcast_to(freedom, center.shape), 1)
    # Once, for both uses: gradients of opposite sign are added before they are rounded to 16 bits.
    freedom = freedom.astype(checks.compute_dtype(center, target, freedom, scale))
    parameters = {"degrees_of_freedom": freedom, "log_scale": scale, "normalizer": normalizer(freedom)}
    return elementwise(student_t, center, target, parameters, **options)


@with_plain
@with_options
def poisson_nll(
    log_rate: ArrayLike,
    targets: ArrayLike,
    *,
    full: bool = False,
    log_input: bool = True,
    **options: Unpack[EntryOptions],
) -> Array:
    r"""Negative log-likelihood of a Poisson distribution with rate λ = :math:`e^z`, elementwise.

    .. math:: L = e^z - t z \;[\, + \log t!\,] = \lambda - t \log \lambda \;[\, + \log t!\,]

    Domain: any real z, or λ >= 0, and targets t >= 0 (counts, or rates); the loss of a negative target or rate is NaN.
    Without log t! it can be negative.

    Gradient: :math:`e^z - t` in z (mean - target), :math:`1 - t/\lambda` in λ, -z in the targets (with log t! also the
    digamma function of t + 1).

    Args:
      log_rate: ``[...]`` floats, z; with ``log_input=False`` the rate λ itself.
      targets: ``[...]`` floats of the shape of ``log_rate``.
      full: add log t!, exactly (not by Stirling's approximation). It does not depend on the prediction.
      log_input: whether the prediction is the logarithm of the rate. A rate near 0 has a steep gradient: prefer it.
      **options: the options of :class:`EntryOptions`.

    Returns:
      The loss in nats, ``[...]`` or a scalar, in float32 or wider.

    Accuracy: 8u of the magnitudes of the terms, 16u with log t!; e^z - t is one rounded difference; 64u in the slope of
    log t!.

    Raises:
      TypeError: arguments that are not floats, a ``where`` that is not boolean.
      ValueError: shapes that do not agree, an unknown reduction.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax import poisson_nll
      >>> [f"{loss:.4f}" for loss in poisson_nll(jnp.array([0.0, 1.0]), jnp.array([2.0, 3.0]), full=True)]
      ['1.6931', '1.5100']

    Source: the exponential family whose log-partition is exp; the Gaussian of §4.1.2 is another.
    """
    prediction, target = pair("log_rate", log_rate, targets)
    counts = rules.Counts(of_log=checks.flag("log_input", log_input), full=checks.flag("full", full))
    if log_input:
        return elementwise(functools.partial(rules.poisson_nll, counts), prediction, target, {}, AMOUNTS, **options)
    valid = checks.mask("where", options.get("where"), prediction.shape)
    rate = AMOUNTS.named("log_rate (the rate itself, for log_input=False)", prediction, valid)

    def rule(dtype: Any, rate: Array, target: Array) -> Array:
        return nan_unless(AMOUNTS.contains(rate), rules.poisson_nll(counts, dtype, rate, target))

    return elementwise(rule, rate, target, {}, AMOUNTS, **options)
