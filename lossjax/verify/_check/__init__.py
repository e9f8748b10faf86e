"""Whether the gradient of anyone's function is right, accurate and usable, judged by executing it exactly."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lossjax.verify._check.accuracy import check_accuracy
from lossjax.verify._check.certificate import Certificate as Certificate
from lossjax.verify._check.certificate import Row as Row
from lossjax.verify._check.cotangent import check_cotangent
from lossjax.verify._check.edges import check_edges
from lossjax.verify._check.inlining import inlined as inlined
from lossjax.verify._check.inputs import variations
from lossjax.verify._check.modes import check_modes
from lossjax.verify._check.problem import problem
from lossjax.verify._check.programs import Pair
from lossjax.verify._check.rule import check_rule

__all__ = ["CHECKS", "Certificate", "Row", "assert_verified", "check", "inlined"]

CHECKS = ("rule", "value", "gradient", "modes", "cotangent", "edges")
"""The names of the checks, in the order in which a certificate's table shows them."""


def check(
    fn: Callable[..., Any],
    *example_args: Any,
    argnums: int | Sequence[int] = 0,
    reference: Callable[..., Any] | None = None,
    checks: str | Sequence[str] | None = None,
    ulps: float = 8,
    seed: int = 0,
) -> Certificate:
    """Check a function's value and gradient: the rule, the accuracy, the transformations, the edges.

    Nothing is compared with finite differences: the function, its derivative, and its formula are executed exactly, in
    ball arithmetic. A wrong rule is then told from a rounding error with certainty, and each float is measured against
    what it should be. The example arguments are tried as given and varied: scaled, shifted, with ties and gaps, with
    every label. Each check has its rows:

    * ``rule``: is the gradient the derivative of the formula? Every ``custom_jvp`` and ``custom_vjp`` inside is
      replaced by its primal body, JAX differentiates that, and both are executed exactly, with another cotangent of
      either sign for every output. At kinks and ties any subgradient is right. ``rule: forward = reverse`` holds
      ``⟨u, Jv⟩ = ⟨Jᵀu, v⟩``, exactly.
    * ``value``, ``gradient``: how accurate, entry by entry? The unit is u of the exact result and of what a rounding of
      the inputs changes in it, ``u (|out| + Σ |∂out/∂xᵢ|·|xᵢ|)``, from exact derivatives; these are asked only where
      the error is above 8 without them. The largest error in ulps is shown beside it. ``gradient`` brings
      ``rule`` with it where there is a custom rule: the digits of a wrong one mean nothing.
    * ``modes``: a row for each of jit, vmap, jvp, linearize, jacfwd, hessian, reverse over reverse, remat, scan,
      shard_map, and half a batch against the whole. Second derivatives are held against the formula's.
    * ``cotangent``: is the pullback linear, and right for the cotangent of a single output?
    * ``edges``: infinities, NaN, the largest and smallest numbers, labels at and beyond the ends. Nothing raises; a
      finite value has a gradient without NaN; a value that exists is not lost to overflow; a label out of range
      whose value is NaN has no plausible gradient, and one whose value is 0 (a mask) has gradient 0.

    Args:
      fn: any function of arrays that JAX can trace, with any pytrees of arguments and of float outputs.
      *example_args: arguments as it is called with. Arrays are varied; Python numbers and flags outside ``argnums``
        stay as they are. Integers are labels where their shape and range fit an axis of a differentiated array.
      argnums: which arguments to differentiate; they may be pytrees.
      reference: a plain function of the same arguments that says what is meant; value and derivative of ``fn`` are
        then held against it, not against its own formula.
      checks: one name or several of ``CHECKS``; None for all.
      ulps: how many of those units are allowed; √n for sums of n > ulps² terms.
      seed: of the variations, directions and cotangents.

    Returns:
      A certificate: ``ok``, ``rows``, ``failures``, ``to_json()``; it prints as a table. A row that could not be
      judged (a primitive without an exact meaning, an undecided comparison, a mode that makes no sense for the
      function) has ``ok`` None, says why, and fails nothing; where nothing at all could be judged ``ok`` is False.

    Raises:
      TypeError: nothing to differentiate in ``argnums``, or no float output.
      ValueError: an unknown name in ``checks``.
      Exception: whatever ``fn`` raises at its own example.

    Domain:
      The function is taken to be defined where the example suggests: an array that looks like probabilities, like
      signs or like positive numbers is varied as such, unless the function is finite outside as well. ``rule``,
      ``modes`` and ``cotangent`` run on float64 copies if the function takes them, so that its own rounded constants
      lie below what is judged; ``value``, ``gradient`` and ``edges`` run it as given. Large arrays get fewer
      variations.

    Accuracy:
      ``rule`` tells apart what differs by 2^-40 of an entry (and 2^-50 of the largest): less is a rounded constant.
      In a function that insists on float32 it is 2^-16.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> square = jax.custom_vjp(lambda x: x**2)
      >>> square.defvjp(lambda x: (x**2, x), lambda x, g: (g * x,))
      >>> found = check(square, jnp.float32(3), checks="rule")
      >>> found.ok
      False
      >>> print(found.failures[0].partition(" (")[0])
      rule: gradient of argument 0 at []: got 5.29687500000, want 10.5937500000

    Source:
      Griewank and Walther, Evaluating Derivatives, 2008, §3 (⟨u, Jv⟩ = ⟨Jᵀu, v⟩); Higham, Accuracy and Stability of
      Numerical Algorithms, 2002, §1.6 (conditioning).
    """
    wanted = CHECKS if checks is None else (checks,) if isinstance(checks, str) else tuple(checks)
    if unknown := [c for c in wanted if c not in CHECKS]:
        raise ValueError(f"there is no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    start = time.perf_counter()
    name = getattr(fn, "__name__", None) or type(fn).__name__
    try:
        one = problem(fn, example_args, argnums)
    except jax.errors.JAXTypeError as error:  # the function runs on concrete numbers only, so it cannot be traced
        fn(*example_args)
        row = Row("modes: jit", False, float("inf"), 0, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return Certificate(name, (row,), time.perf_counter() - start)
    rows: list[Row] = []
    with np.errstate(all="ignore"):
        pair = Pair(one, reference, seed)
        families = variations(one, seed) if {"rule", "value", "gradient"} & set(wanted) else []
        # The accuracy of a gradient is measured against its own rule executed exactly, so that a wrong rule may pass as
        # accurate. Therefore the rule is checked whenever the gradient is.
        if "rule" in wanted or ("gradient" in wanted and reference is None and pair.has_rules):
            rows += check_rule(one, families, reference, pair, seed)
        if "value" in wanted or "gradient" in wanted:
            rows += check_accuracy(one, families, reference, wanted, ulps, seed)
        if "modes" in wanted:
            rows += check_modes(one, pair, seed)
        if "cotangent" in wanted:
            rows += check_cotangent(one, pair, seed)
        if "edges" in wanted:
            rows += check_edges(one, reference, pair, seed)
    return Certificate(name, tuple(rows), time.perf_counter() - start)


def assert_verified(
    fn: Callable[..., Any],
    *example_args: Any,
    argnums: int | Sequence[int] = 0,
    reference: Callable[..., Any] | None = None,
    checks: str | Sequence[str] | None = None,
    ulps: float = 8,
    seed: int = 0,
) -> Certificate:
    """:func:`check` for a test: an error that names what falls short.

    Args:
      fn: as for :func:`check`.
      *example_args: as for :func:`check`.
      argnums: as for :func:`check`.
      reference: as for :func:`check`.
      checks: as for :func:`check`.
      ulps: as for :func:`check`.
      seed: as for :func:`check`.

    Returns:
      The certificate, all of whose judged rows hold.

    Raises:
      AssertionError: something falls short, or nothing could be judged; one line each, with the inputs.

    Example:
      >>> import jax.numpy as jnp
      >>> assert_verified(jnp.square, jnp.float32(3), checks=("rule", "value")).ok
      True
    """
    found = check(fn, *example_args, argnums=argnums, reference=reference, checks=checks, ulps=ulps, seed=seed)
    if not found.ok:
        raise AssertionError(f"{found.name} is not verified:\n" + "\n".join(found.failures))
    return found
