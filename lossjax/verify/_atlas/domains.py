"""Where the atlas looks: kinds of arguments, points of many scales for each, and the kinds that a function takes.

A kind is a word for the arguments that a function is made for. Every kind is drawn over all its scales: numbers from
2⁻⁶⁰ to 2⁶⁰, so that a square neither overflows nor underflows, close to 1, 2 and ½, logits of confident and of tied
rows, probabilities of next to nothing and of next to all. Points at which the exact result is not finite lie outside
of the function's domain and are no matter of the atlas, so that a kind may be wider than the domain.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Draw = Callable[[np.random.Generator, int, float], NDArray[Any]]
"""So many arguments of one kind, in float64 or int32, whose numbers are within 2 to the ± of the last argument."""
FAR, NEAR = 60.0, 8.0
"""How far numbers reach; and how far those of functions whose exact value takes long for large arguments."""
SLOW = ("regularized_incomplete_beta", "igamma", "random_gamma_grad", "zeta", "polygamma", "bessel")
"""The primitives of these functions, or what their names contain."""
CLASSES = 4
"""The length of a row."""


class Kind(NamedTuple):
    """One kind of argument."""

    draw: Draw
    shape: tuple[int, ...] = ()
    integer: bool = False


def _scales(random: np.random.Generator, count: int, low: float = -60, high: float = 60) -> NDArray[Any]:
    """Magnitudes of all scales, two thirds of them between 2⁻¹⁰ and 2⁷, where most functions are made for."""
    wide = random.uniform(size=count) < 1 / 3
    return 2 ** np.where(wide, random.uniform(low, high, count), random.uniform(max(low, -10), min(high, 7), count))


def _signs(random: np.random.Generator, *shape: int) -> NDArray[Any]:
    return random.choice([-1.0, 1.0], shape)


def _near(random: np.random.Generator, numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers close to these, from within a few of their last bits to within a half."""
    return numbers * (1 + _signs(random, *numbers.shape) * 2 ** random.uniform(-22, -1, numbers.shape))


def _positive(random: np.random.Generator, count: int, reach: float) -> NDArray[Any]:
    anchors = _near(random, random.choice([0.5, 1.0, 2.0, 3.0], count))
    return np.where(random.uniform(size=count) < 0.25, anchors, _scales(random, count, -reach, reach))


def _real(random: np.random.Generator, count: int, reach: float) -> NDArray[Any]:
    drawn = _positive(random, count, reach) * _signs(random, count)
    drawn[: count // 64] = 0
    return drawn


def _unit(random: np.random.Generator, count: int, reach: float) -> NDArray[Any]:
    """From next to 0 to next to 1."""
    low = 2.0 ** random.uniform(-reach, -1, count)
    high = 1 - 2.0 ** random.uniform(-24, -1, count)
    return np.choose(random.integers(0, 3, count), [low, high, random.uniform(size=count)])


def _row(random: np.random.Generator, count: int, reach: float = FAR) -> NDArray[Any]:
    """Logits: of all scales, far from 0, with a leading class, with ties."""
    rows = random.normal(size=(count, CLASSES)) * _scales(random, count, -12, 7)[:, None]
    kind = random.integers(0, 4, count)
    rows[kind == 1] += (_real(random, count, reach)[kind == 1, None]).clip(-1e4, 1e4)
    rows[kind == 2, 0] += random.uniform(0, 60, count)[kind == 2]
    rows[kind == 3, 1] = rows[kind == 3, 0]
    return rows


def _distribution(random: np.random.Generator, count: int, reach: float = FAR) -> NDArray[Any]:
    """Probabilities of a row: even, peaked, and with next to nothing for some classes."""
    shares = np.exp(random.normal(size=(count, CLASSES)) * _scales(random, count, -8, 4)[:, None])
    return np.maximum(shares / shares.sum(-1, keepdims=True), 1e-30)


KINDS: Mapping[str, Kind] = {
    "real": Kind(_real),
    "positive": Kind(_positive),
    "unit": Kind(_unit),
    "count": Kind(lambda random, count, reach: np.floor(2 ** random.uniform(0, 10, count)) - 1),
    "sign": Kind(lambda random, count, reach: _signs(random, count)),
    "bit": Kind(lambda random, count, reach: random.integers(0, 2, count).astype(np.float64)),
    "order": Kind(lambda random, count, reach: random.integers(0, 5, count).astype(np.int32), integer=True),
    "row": Kind(_row, (CLASSES,)),
    "distribution": Kind(_distribution, (CLASSES,)),
    "log distribution": Kind(lambda random, count, reach: np.log(_distribution(random, count)), (CLASSES,)),
    "log probability": Kind(lambda random, count, reach: -_positive(random, count, reach).clip(2.0**-60, 1e4)),
    "log scale": Kind(lambda random, count, reach: random.normal(size=count) * 2.0 ** random.uniform(-10, 4, count)),
    "binary label": Kind(lambda random, count, reach: random.integers(0, 2, count).astype(np.int32), integer=True),
    "label": Kind(lambda random, count, reach: random.integers(0, CLASSES, count).astype(np.int32), integer=True),
}
"""All kinds, by the words that a caller states them in."""

WHOLE = ("distribution", "log distribution", "label", "binary label", "order", "sign", "bit", "count")
"""Kinds whose numbers are not rounded: they would be others, or sum to another number."""

Points = tuple[NDArray[Any], ...]
"""One array for each argument, whose first axis counts points."""


def kinds_of(words: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds of these words.

    Raises:
      ValueError: a word that is no kind.
    """
    if unknown := [word for word in words if word not in KINDS]:
        raise ValueError(f"{unknown[0]!r} is no kind of argument; there are {', '.join(KINDS)}")
    return tuple(KINDS[word] for word in words)


def points(words: Sequence[str], count: int, dtype: Any, random: np.random.Generator, reach: float = FAR) -> Points:
    """Arguments of these kinds. In a third of the points an argument is close to the one before it, if of its kind."""
    kinds = kinds_of(words)
    drawn = [kind.draw(random, count, reach) for kind in kinds]
    for i in range(1, len(drawn)):
        if words[i] == words[i - 1] and not kinds[i].integer:
            some = random.uniform(size=count) < 1 / 3
            drawn[i][some] = _near(random, drawn[i - 1][some])
    return tuple(
        array if kind.integer else representable(array, dtype) for array, kind in zip(drawn, kinds, strict=True)
    )


def representable(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """In this dtype; what would be subnormal there is 0, as it is on XLA's CPU."""
    rounded = np.asarray(array, dtype)
    return np.where(np.abs(rounded.astype(np.float64)) < float(jnp.finfo(dtype).tiny), rounded * 0, rounded)


def digits(number: Any, dtype: Any) -> int:
    """How many significant digits say which number of the dtype it is."""
    return next(n for n in range(1, 20) if n == 19 or np.asarray(float(f"{number:.{n}g}")).astype(dtype) == number)


def of_digits(numbers: NDArray[Any], count: int) -> NDArray[Any]:
    """The numbers rounded to so many significant digits."""
    rounded = [float(f"{x:.{count}g}") for x in np.asarray(numbers, np.float64).ravel().tolist()]
    return representable(np.array(rounded).reshape(np.shape(numbers)), numbers.dtype)


_ENOUGH = 0.9
"""The share of points with a finite value from which a kind is the function's domain."""


def found(function: Callable[..., Any], dtype: Any) -> tuple[str, ...] | None:
    """The kinds that the function takes, found by trying; None if it takes none that are tried.

    Scalars come first, the widest kinds first; then rows, alone, with a label, with another row, with a distribution.
    The first that give a finite value nearly everywhere are taken, else those that do so most often.
    """
    compiled = jax.jit(jax.vmap(function))  # once for all kinds of one shape
    for arity in _arities(function):
        tried = [*itertools.product(*_choices(function, arity))]
        if arity == 1:
            tried += [("row",)]
        if arity == 2:
            tried += [
                ("order", "real"),
                ("order", "positive"),
                ("row", "label"),
                ("row", "row"),
                ("row", "distribution"),
            ]
        shares: dict[tuple[str, ...], float] = {}
        for words in tried:
            shares[words] = _finite(compiled, words, dtype)
            if shares[words] >= _ENOUGH:
                return words
        best = max(tried, key=shares.__getitem__)
        if shares[best] > 0:
            return best
    return None


_OF_PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(
        ("scale", "scale_diag", "concentration", "alpha", "beta", "a", "b", "rate", "df", "mu", "c"), "positive"
    ),
    **dict.fromkeys(("p", "q", "probs"), "unit"),
}
"""What parameters of distributions are, by their names: many give numbers for others, which mean nothing."""


def _choices(function: Callable[..., Any], arity: int) -> list[tuple[str, ...]]:
    """The kinds of numbers that each argument may be, the widest first."""
    every = ("real", "positive", "unit")
    try:
        names = list(inspect.signature(function).parameters)[:arity]
    except (TypeError, ValueError):
        names = []
    chosen: list[tuple[str, ...]] = [(_OF_PARAMETERS[n],) if n in _OF_PARAMETERS else every for n in names]
    return chosen + [every] * (arity - len(names))


def _arities(function: Callable[..., Any]) -> tuple[int, ...]:
    """How many arguments the function may be called with: those without a default, else one, two or three."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1, 2, 3
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = sum(p.default is p.empty for p in positional)
    if required:
        return (required,) if required <= 3 else ()
    return (1,) if positional else (1, 2, 3)


def _finite(compiled: Callable[..., Any], words: Sequence[str], dtype: Any) -> float:
    """The share of points of these kinds that a function of many has finite values for; 0 if it takes none."""
    drawn = points(words, 64, dtype, np.random.default_rng(1))
    try:
        with np.errstate(all="ignore"):
            results = jax.tree.leaves(compiled(*drawn))
            floats = [np.asarray(r) for r in results if jnp.issubdtype(r.dtype, jnp.floating)]
            if not floats or max(np.size(f[0]) for f in floats) > CLASSES:
                return 0.0
            return float(np.mean(np.all([np.isfinite(f).reshape(len(f), -1).all(-1) for f in floats], axis=0)))
    except Exception:  # whatever a function raises for arguments that are not its own
        return 0.0
