"""Whether the pullback is linear in its cotangent and uses every entry of it, by identities that hold exactly."""

import numpy as np

from lossjax.verify import oracle, ulp
from lossjax.verify._check import compare as by
from lossjax.verify._check.certificate import Row
from lossjax.verify._check.family import shown
from lossjax.verify._check.inputs import generic
from lossjax.verify._check.problem import Arrays, Problem
from lossjax.verify._check.programs import REFUSALS, Pair, cotangents
from lossjax.verify._check.rule import truncated
from lossjax.verify.ulp import Balls

_A, _B = 0.75, -1.25
_SIZES = (2.0**40, 2.0**9, 2.0**-9, 2.0**-40)
_ONE_HOT = 6


def check_cotangent(one: Problem, pair: Pair, seed: int) -> list[Row]:
    """The row ``cotangent``.

    Two identities are tried. The pullback is linear: ``Jᵀ(a·u + b·v) = a·Jᵀu + b·Jᵀv``, and so are its multiples
    between 2^40 and 2^-40 and by 0, which finds a rule that clips its cotangent or lets a small one vanish. And for
    single outputs, the pullback of a cotangent that is 1 there and 0 elsewhere is that of the formula; this finds a
    rule that applies the first row's cotangent to every row, which is linear too.
    """
    random = np.random.default_rng(seed + 2)
    arrays = generic(one, pair.arrays, random)
    u, v = cotangents(pair.outputs, random), cotangents(pair.outputs, random)
    mixed = tuple(np.asarray(_A * x.astype(np.float64) + _B * y.astype(np.float64)) for x, y in zip(u, v, strict=True))
    failures: list[str] = []
    worst = truncation = 0.0
    try:
        of_u, of_v = pair.ruled(arrays, u)[1], pair.ruled(arrays, v)[1]
        of_mixed = pair.ruled(arrays, tuple(map(ulp.balls, mixed)))[1]
        with oracle.precision():
            sums = tuple(x * _A + y * _B for x, y in zip(of_u, of_v, strict=True))
            multiples = [(f"{size:g}·Jᵀu", size, tuple(x * size for x in of_u)) for size in (*_SIZES, 0.0)]
        worst = _compared(one, pair, of_mixed, sums, arrays, "a·Jᵀu + b·Jᵀv", failures)
        for name, size, wanted in multiples:
            of_multiple = pair.ruled(arrays, tuple(ulp.balls(x.astype(np.float64) * size) for x in u))[1]
            worst = max(worst, _compared(one, pair, of_multiple, wanted, arrays, name, failures))
        plain = pair.plain
        for name, single in [] if plain is None else _singles(pair):
            got, want = pair.ruled(arrays, single)[1], plain(arrays, single)[1]  # pyright: ignore[reportOptionalCall]
            lines: list[str] = []
            units = _compared(one, pair, got, want, arrays, name, lines)
            if lines and _but_for_constants(pair, got, want, arrays, single):
                continue
            if lines and units * pair.tolerance.u <= pair.roundoff:
                truncation = max(truncation, units * pair.tolerance.u)
                continue
            worst, failures = max(worst, units), failures + lines
    except REFUSALS as error:
        return [Row("cotangent", None, statement=f"not judged: {error}")]
    detail = "linear in the cotangent, also a huge, a tiny and none, and right for single outputs: exactly, in u"
    ok: bool | None = not failures
    if truncation and not failures:
        ok, detail = True if pair.by_reference else None, f"{truncated(truncation, pair)}; {detail}"
    return [Row("cotangent", ok, worst, pair.tolerance.of_entry / pair.tolerance.u, detail, tuple(failures[:3]))]


def _compared(
    one: Problem, pair: Pair, got: Arrays, want: Arrays, arrays: Arrays, what: str, failures: list[str]
) -> float:
    worst = 0.0
    for position, g, w in zip(one.moving, got, want, strict=True):
        c = by.compare(_array(g), _array(w), pair.tolerance)
        worst = max(worst, float(np.max(c.units, initial=0)))
        if c.wrong.any():
            at = by.first(c.wrong, c.units)
            failures.append(
                f"gradient of {one.names[position]} at {list(at)} for {what}: got {by.text(_array(g)[at])}, "
                f"want {by.text(_array(w)[at])} (inputs: {shown(one, arrays, at[0] if at else None)})"
            )
    return worst


def _but_for_constants(pair: Pair, got: Arrays, want: Arrays, arrays: Arrays, single: Arrays) -> bool:
    """Whether all that differs hangs on what the constants of the programs were rounded from."""
    wrong = [by.compare(_array(g), _array(w), pair.tolerance).wrong for g, w in zip(got, want, strict=True)]
    unsure = pair.hang_on_constants(arrays, single, wrong)
    return all((a == b).all() for a, b in zip(wrong, unsure, strict=True))


def _array(balls: Balls) -> Balls:
    """The balls as an array, also where numpy has unwrapped the only entry of an array without axes."""
    if isinstance(balls, np.ndarray):
        return balls
    whole = np.empty((), dtype=object)
    whole[()] = balls
    return whole


def _singles(pair: Pair) -> list[tuple[str, Arrays]]:
    """Cotangents that are 1 at one output and 0 elsewhere: the last entries, the first, and some between."""
    found = []
    for k, shape in enumerate(pair.outputs):
        size = int(np.prod(shape.shape, dtype=int))
        for at in sorted(set(np.linspace(0, size - 1, min(size, _ONE_HOT)).astype(int).tolist())):
            zeros = [np.zeros(s.shape, s.dtype) for s in pair.outputs]
            zeros[k].reshape(-1)[at] = 1
            place = [int(i) for i in np.unravel_index(at, shape.shape)]
            found.append((f"the cotangent of output {k} at {place} alone", tuple(zeros)))
    return found
