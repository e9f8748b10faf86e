"""Special functions of two and three numbers, on the domains where they are defined; NaN outside."""

from flint import arb, ctx

from lossjax.verify._exact.rules import INF, NAN, ONE, ZERO, Operation
from lossjax.verify._exact.unary import certain, digamma_edge
from lossjax.verify.oracle import precision

_SHIFTS = 10_000  # steps of the recurrence that moves a zeta function's argument to the right


def _gamma(a: arb, x: arb, *, upper: bool) -> arb | None:
    """The regularised incomplete gamma functions P and Q, and their limits at the edges of a > 0, x > 0."""
    nothing, everything = (ONE, ZERO) if upper else (ZERO, ONE)
    if a.is_nan() or x.is_nan() or a < 0 or x < 0 or (a == 0 and x == 0):
        return NAN
    if not (a.is_finite() and x.is_finite()):
        return NAN if not (a.is_finite() or x.is_finite()) else everything if a.is_finite() else nothing
    if x == 0:
        return nothing if a > 0 else None
    if a == 0:
        return everything if x > 0 else None
    return certain(x.gamma_upper(a, regularized=1) if upper else x.gamma_lower(a, regularized=1))


def _beta(a: arb, b: arb, x: arb) -> arb | None:
    """The regularised incomplete beta function for a, b > 0 and x in [0, 1]."""
    if a.is_nan() or b.is_nan() or x.is_nan() or a <= 0 or b <= 0 or x < 0 or x > 1:
        return NAN
    if not (a > 0 and b > 0 and a.is_finite() and b.is_finite()):
        return None
    if x == 0 or x == 1:
        return x
    return certain(x.beta_lower(a, b, regularized=1))


def _zeta(s: arb, q: arb) -> arb | None:
    """Hurwitz's zeta function ``Σ (q + k)^-s`` for s > 1, as the series has it for q <= 0 too."""
    if s.is_nan() or q.is_nan() or s < 1:
        return NAN
    if s == 1:
        return INF
    if not (s > 1 and s.is_finite()):
        return None
    if not q.is_finite():
        return ZERO if q > 0 else NAN
    if q > 0:
        return certain(s.zeta(q))
    if q <= 0 and q.is_integer():
        return INF
    if q < 0 and s.is_exact() and not s.is_integer():
        return NAN
    if not (s.is_integer() and q < 0 and q > -_SHIFTS):
        return None
    steps = int(float(-q)) + 2
    shifted = sum((1 / (q + k) ** int(float(s)) for k in range(steps)), ZERO)
    return certain(shifted + s.zeta(q + steps))


def _polygamma(order: arb, x: arb) -> arb | None:
    """``ψ⁽ⁿ⁾(x) = (-1)ⁿ⁺¹ n! ζ(n + 1, x)``; NaN at a pole whose two sides differ in sign."""
    if order.is_nan() or x.is_nan() or order < 0 or (order.is_exact() and not order.is_integer()):
        return NAN
    if not order.is_integer():
        return None
    if order == 0:
        psi = x.digamma()
        return psi if psi.is_finite() else digamma_edge(x)
    pole = x <= 0 and x.is_integer()
    even = (order / 2).is_integer()
    if pole:
        return NAN if even else INF
    size = _zeta(order + 1, x)
    return size if size is None or size.is_nan() else (order + 1).gamma() * (-size if even else size)


_LONGEST_SERIES = 20_000


def _gamma_by_order(a: arb, x: arb) -> arb | None:
    """``∂P(a, x)/∂a``, by the series of P, whose terms ``t_n = x^(a+n) e^-x / Γ(a+n+1)`` have all one sign.

    The derivative of a term is ``t_n (log x - ψ(a+n+1))``. From where ``r = x/(a+n+1) <= 1/4`` the terms fall by r, and
    ψ(y + k) <= log y + k, so that the rest is at most ``t_n ((|log x| + log y)/(1-r) + r/(1-r)²)``.
    """
    if a.is_nan() or x.is_nan() or a <= 0 or x < 0:
        return NAN
    if x == 0 and a > 0:
        return ZERO
    if not (a > 0 and x > 0 and a.is_finite() and x.is_finite() and x < _LONGEST_SERIES / 8):
        return None
    accuracy = ctx.prec
    with precision(accuracy + 64 + int(3 * float(x.upper()))):  # P tends to 1, and its derivative to 0 like e^-x
        size, near = x.log(), arb(2) ** (-accuracy - int(3 * float(x.upper())) - 32)
        term = (a * size - x).exp() / (a + 1).gamma()
        psi, y, total = (a + 1).digamma(), a + 1, ZERO
        for n in range(_LONGEST_SERIES):
            total += term * (size - psi)
            term, psi, y = term * x / y, psi + 1 / y, y + 1
            ratio = x / y
            if n > 2 and ratio < 0.25:
                rest = term * ((abs(size) + y.log()) / (1 - ratio) + ratio / (1 - ratio) ** 2)
                if rest < near:
                    return certain(total + arb(0, rest.upper()))
    return None


TWO: dict[str, Operation] = {
    "igamma_grad_a": Operation(_gamma_by_order),
    "igamma": Operation(lambda a, x: _gamma(a, x, upper=False)),
    "igammac": Operation(lambda a, x: _gamma(a, x, upper=True)),
    "zeta": Operation(_zeta),
    "polygamma": Operation(_polygamma),
}
THREE: dict[str, Operation] = {"regularized_incomplete_beta": Operation(_beta)}
