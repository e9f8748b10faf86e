"""Subjects of distrax and numpyro."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from survey import subjects
from survey.of_libraries import KEY, classes
from survey.subjects import OTHER, POSITIVE, UNIT, Subject

_POINTS = (UNIT, OTHER, UNIT + 1, POSITIVE[0] / 9, UNIT / UNIT.sum(), POSITIVE, np.linalg.cholesky(POSITIVE), UNIT + 2)
_SAMPLED = ("sample", "log_prob", "entropy", "mean", "variance")


def _distributions(
    library: str, module: Any, base: type, sample: Callable[..., Any], parts: tuple[str, ...]
) -> Iterator[Subject]:
    for name, kind in classes(module, base):
        try:
            required = [
                p
                for p in inspect.signature(kind).parameters.values()
                if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD
            ]
        except (TypeError, ValueError):
            continue
        count = max(len(required), 1)
        choices = [
            _POINTS[:count],
            (UNIT,) * count,
            (OTHER, UNIT + 1, UNIT + 2)[:count],
            (POSITIVE[0], POSITIVE),
            (POSITIVE[0], np.linalg.cholesky(POSITIVE)),
            (UNIT / UNIT.sum(),),
            (0.3, 0.8, 1.5)[:count],
        ]
        for given in choices:
            try:
                drawn = np.asarray(sample(kind(*given)))
                if not np.all(np.isfinite(drawn)):
                    continue
            except Exception:
                continue
            for part in parts:

                def function(*args: Any, kind: Any = kind, part: str = part, drawn: Any = drawn) -> Any:
                    made = kind(*args)
                    if part == "sample":
                        return sample(made)
                    if part == "log_prob":
                        return made.log_prob(drawn)
                    value = getattr(made, part)
                    return value() if callable(value) else value

                if subject := subjects.accepted(library, f"{library}.{name}.{part}", function, given):
                    yield subject
            break


def distrax() -> Iterator[Subject]:
    """Distributions, their draws, densities and moments; bijectors forward and backward."""
    import distrax as library

    yield from _distributions("distrax", library, library.Distribution, lambda d: d.sample(seed=KEY), _SAMPLED)
    for name, kind in classes(library, library.Bijector):
        for given in ((), (UNIT,), (UNIT, OTHER), (POSITIVE,)):
            for x in (UNIT, POSITIVE[0]):

                def both(x: Any, *args: Any, kind: Any = kind) -> Any:
                    made = kind(*args)
                    return made.forward_and_log_det(x), made.inverse_and_log_det(made.forward(x))

                if subject := subjects.accepted("distrax", f"distrax.{name}", both, (x, *given)):
                    yield subject
                    break
            else:
                continue
            break


def numpyro() -> Iterator[Subject]:
    """Distributions, their draws, densities and moments."""
    from numpyro import distributions

    yield from _distributions(
        "numpyro",
        distributions,
        distributions.Distribution,
        lambda d: d.sample(KEY),
        ("sample", "log_prob", "mean", "variance"),
    )
