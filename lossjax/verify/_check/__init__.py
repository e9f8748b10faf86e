"""Whether the gradient of anyone's function is right, accurate and usable, judged by executing it exactly."""

import contextlib
import functools
import importlib.metadata
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

import jax
import numpy as np

import lossjax
from lossjax._core.options import Option, complete, with_options
from lossjax.verify._check.accuracy import check_accuracy
from lossjax.verify._check.certificate import Certificate as Certificate
from lossjax.verify._check.certificate import Row as Row
from lossjax.verify._check.cotangent import check_cotangent
from lossjax.verify._check.edges import check_edges
from lossjax.verify._check.family import Family
from lossjax.verify._check.inlining import inlined as inlined
from lossjax.verify._check.inputs import variations
from lossjax.verify._check.modes import check_modes
from lossjax.verify._check.problem import Problem, is_float, problem
from lossjax.verify._check.programs import Pair
from lossjax.verify._check.rule import check_rule, check_sizes
from lossjax.verify.subject import CHECKS as CHECKS
from lossjax.verify.subject import home
from lossjax.verify.workers import little_garbage

__all__ = ["CHECKS", "Certificate", "Row", "assert_verified", "check", "inlined"]

USUAL = tuple(name for name in CHECKS if name != "overflow")
"""Those that are asked where nobody says which."""


class CheckOptions(TypedDict, total=False):
    """How a function is checked."""

    argnums: Annotated[
        int | Sequence[int] | None,
        Option(
            None, "those to differentiate, by position; they may be pytrees. None for every float array, keywords' too."
        ),
    ]
    keywords: Annotated[Mapping[str, Any] | None, Option(None, "keyword arguments that it is called with.")]
    reference: Annotated[
        Callable[..., Any] | None,
        Option(
            None,
            "a plain function of the same arguments that says what is meant; value and derivative of ``fn`` are then "
            "held against it, not against its own formula.",
        ),
    ]
    checks: Annotated[
        str | Sequence[str] | None,
        Option(
            None,
            "``rule``, ``value``, ``gradient``, ``modes``, ``cotangent``, ``edges`` or ``overflow``, or several of "
            "these; None for all but ``overflow``.",
        ),
    ]
    ulps: Annotated[
        float,
        Option(8, "how many units of roundoff, of result and inputs, are allowed; √n for sums of n > ulps² terms."),
    ]
    seed: Annotated[int, Option(0, "of the variations, directions and cotangents.")]


@with_options
def check(fn: Callable[..., Any], *example_args: Any, **options: Unpack[CheckOptions]) -> Certificate:
    """Check a function's value and gradient: the rule, the accuracy, the transformations, the edges.

    Nothing is compared with finite differences: the function, its derivative, and its formula are executed exactly, in
    ball arithmetic. A wrong rule is then told from a rounding error with certainty, and each float is measured against
    what it should be. The example arguments are tried as given and varied: scaled, shifted, with ties and gaps, with
    every label. Each check has its rows:

    * ``rule``: is the gradient the derivative of the formula? Every ``custom_jvp`` and ``custom_vjp`` inside is
      replaced by its primal body, JAX differentiates that, and both are executed exactly, with another cotangent of
      either sign for every output. At kinks and ties any subgradient is right. ``rule: in float32`` asks it in the
      arguments' own dtype, where a rule may be another; ``rule: other sizes`` for a batch of one, for more rows than
      one, and for one entry more along each axis, which fits no whole block, also where two axes are as long by
      accident. ``rule: forward = reverse`` holds ``⟨u, Jv⟩ = ⟨Jᵀu, v⟩``, exactly.
    * ``value``, ``gradient``: how accurate, entry by entry? The unit is u of the exact result and of what a rounding of
      the inputs changes in it, ``u (|out| + Σ |∂out/∂xᵢ|·|xᵢ|)``, from exact derivatives; these are asked only where
      the error is above 4 without them. The largest error in ulps is shown beside it. Where outputs feel each
      other's inputs, cotangents of a single output are tried too. ``gradient`` brings ``rule`` with it where there is
      a custom rule: the digits of a wrong one mean nothing.
    * ``modes``: a row for each of jit, grad of jit, vmap, jvp, linearize, jacfwd, hessian, reverse over reverse, remat,
      scan, shard_map, and for batches of one row, half of the rows, and one more against the whole. Second derivatives
      are held against the formula's, along two directions.
    * ``cotangent``: is the pullback linear, up to huge and down to tiny and no cotangents, and right for that of a
      single output?
    * ``edges``: infinities, NaN, large and the smallest numbers, labels at and beyond the ends. Nothing raises; a
      finite value has a gradient without NaN; a value that exists is not lost to overflow; a label out of range
      gives no plausible value; if the value is NaN the gradient is not plausible, and if it is 0 (a mask) it is 0.
    * ``overflow``: the same for the largest numbers of the dtype, which few functions bear. It is asked by name only.

    Args:
      fn: any function of arrays that JAX can trace, with any pytrees of arguments and of float outputs.
      *example_args: arguments as it is called with. Arrays are varied, flags and integers too; Python numbers, flags
        and functions outside ``argnums`` stay as they are. Integers are labels where their shape and range fit an
        axis of a differentiated array.
      **options: how it is checked.

    Returns:
      A certificate: ``right`` (is the gradient right?), ``ok``, ``rows``, ``failures``, ``to_json()``; it prints as a
      table under the answer. A row that could not be judged (a primitive without an exact meaning, an undecided
      comparison, a mode that makes no sense for the function, forward mode of a ``custom_vjp``) has ``ok`` None and
      says why. A rule that could not be judged makes ``right`` and ``ok`` None, which is not True.

    Raises:
      TypeError: nothing to differentiate in ``argnums``, or no float output.
      ValueError: an unknown name in ``checks``; a reference that takes other arguments or returns other shapes.
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
      >>> from lossjax.verify import check
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
    given = complete(CheckOptions, options)
    argnums, keywords, reference, checks, ulps, seed = (given[name] for name in CheckOptions.__annotations__)
    wanted = USUAL if checks is None else (checks,) if isinstance(checks, str) else tuple(checks)
    if unknown := [c for c in wanted if c not in CHECKS]:
        raise ValueError(f"there is no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    start = time.perf_counter()
    known = home(fn)
    name = (known and known[1]) or getattr(fn, "__name__", None) or type(fn).__name__
    try:
        one = problem(fn, example_args, argnums, keywords)
    except jax.errors.JAXTypeError as error:  # the function runs on concrete numbers only, so it cannot be traced
        fn(*example_args, **(keywords or {}))
        row = Row("modes: jit", False, float("inf"), 0, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return Certificate(name, (row,), time.perf_counter() - start)
    if reference is not None:
        _fits(one, reference)
    rows: list[Row] = []
    with little_garbage():
        with contextlib.suppress(Exception):
            rows = _rows(one, wanted, reference, ulps, seed, wide=True)
        if not rows:  # JAX may remember in 32 bits what a function closes over in 64, and the other way round
            jax.clear_caches()
            rows = _rows(one, wanted, reference, ulps, seed, wide=False)
    return Certificate(name, tuple(rows), time.perf_counter() - start, _about(one))


def _fits(one: Problem, reference: Callable[..., Any]) -> None:
    """ValueError for a reference that cannot be called as the function is, or returns arrays of other shapes."""
    try:
        meant = jax.eval_shape(one.values(reference), one.arrays)
    except Exception as error:  # anyone's function may raise anything
        said = next(iter(str(error).splitlines()), "")
        raise ValueError(f"the reference does not take these arguments: {type(error).__name__}: {said}") from error
    returned, wanted = ([list(s.shape) for s in shapes] for shapes in (meant, one.shapes(one.arrays)))
    if returned != wanted:
        raise ValueError(f"the reference returns floats of the shapes {returned}, the function {wanted}")


def _rows(
    one: Problem,
    wanted: Sequence[str],
    reference: Callable[..., Any] | None,
    ulps: float,
    seed: int,
    *,
    wide: bool,
) -> list[Row]:
    """The rows of the wanted checks, on float64 copies where that is possible and ``wide``."""
    rows: list[Row] = []
    with np.errstate(all="ignore"):
        pair = Pair(one, reference, seed, wide=wide)
        families = variations(one, seed) if {"rule", "value", "gradient"} & set(wanted) else []
        # The accuracy of a gradient is measured against its own rule executed exactly, so that a wrong rule may pass as
        # accurate. Therefore the rule is checked whenever the gradient is.
        if "rule" in wanted or ("gradient" in wanted and reference is None and pair.has_rules):
            rows += check_rule(one, families, reference, pair, seed)
            if rows[0].ok:  # else all is said
                rows += _as_given(one, families, reference, pair, seed)
                if reference is not None or pair.has_rules:
                    rows += check_sizes(reference, pair, seed)
        if "value" in wanted or "gradient" in wanted:
            rows += check_accuracy(pair, families, reference, wanted, ulps, seed)
        if "modes" in wanted:
            rows += check_modes(one, pair, seed)
        if "cotangent" in wanted:
            rows += check_cotangent(one, pair, seed)
        if of_edges := [name for name in ("edges", "overflow") if name in wanted]:
            rows += check_edges(one, reference, pair, of_edges, seed)
    return rows


def _as_given(
    one: Problem, families: Sequence[Family], reference: Callable[..., Any] | None, pair: Pair, seed: int
) -> list[Row]:
    """The row ``rule: in float32`` (or what the arguments are): a rule may differ from dtype to dtype."""
    dtypes = sorted({str(a.dtype) for a in one.chosen(one.arrays)} - {"float64"})
    if not pair.wide or not dtypes or (reference is None and not pair.has_rules):
        return []
    own = Pair(one, reference, seed, wide=False)
    name = f"rule: in {', '.join(dtypes)}"
    return [row for row in check_rule(one, families[:2], reference, own, seed, name=name) if row.name == name]


def _about(one: Problem) -> dict[str, Any]:
    """What a certificate is valid for."""
    device = next(iter(jax.devices()))
    return {
        "differentiated": {one.names[i]: str(one.arrays[i].dtype) for i in one.moving},
        "device": f"{device.platform} ({device.device_kind})" if device.platform != "cpu" else "cpu",
        "versions": {"lossjax": lossjax.__version__}  # which need not be installed
        | {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
        | {"python": platform.python_version()},
    }


@with_options
def assert_verified(
    fn: Callable[..., Any], *example_args: Any, plant: bool = False, **options: Unpack[CheckOptions]
) -> Certificate:
    """:func:`check` for a test: an error that names what falls short.

    Args:
      fn: any function of arrays that JAX can trace.
      *example_args: arguments as it is called with.
      plant: also make the gradient an eighth too large, and see that the check rejects it: a check of the check.
      **options: how it is checked.

    Returns:
      The certificate, all of whose judged rows hold.

    Raises:
      AssertionError: something falls short, or nothing could be judged; one line each, with the inputs. With
        ``plant``: the gradient made an eighth too large was not rejected, as where it is 0 for all arguments tried.

    Example:
      >>> import jax.numpy as jnp
      >>> from lossjax.verify import assert_verified
      >>> assert_verified(jnp.square, jnp.float32(3), checks=("rule", "value")).ok
      True
    """
    found = check(fn, *example_args, **options)
    if not found.ok:
        what = "is not verified" if found.ok is False else "could not be judged"
        raise AssertionError(f"{found.name} {what}:\n" + "\n".join(found.failures))
    if plant:
        meant = options.get("reference")
        asked = options | {"reference": inlined(fn) if meant is None else meant, "checks": "rule"}
        wrong = check(_planted(fn), *example_args, **asked)
        if wrong.right is not False:
            raise AssertionError(f"{found.name} with a gradient an eighth too large was not rejected:\n{wrong}")
    return found


def _planted(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the same value and a gradient that is an eighth too large."""

    def too_steep(leaf: Any) -> Any:
        return leaf + (leaf - jax.lax.stop_gradient(leaf)) / 8 if is_float(leaf) else leaf

    @functools.wraps(fn)
    def planted(*args: Any, **keywords: Any) -> Any:
        given, named = jax.tree.map(too_steep, (args, keywords))
        return fn(*given, **named)

    return planted
