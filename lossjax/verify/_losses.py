"""Certificates of every public loss of lossjax, in every dtype, on this machine."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lossjax._core.findings import Finding
from lossjax.verify._check import CHECKS, Certificate, Row, check
from lossjax.verify._check.accuracy import check_accuracy
from lossjax.verify._check.inputs import variations
from lossjax.verify._check.modes import NOT_AVAILABLE
from lossjax.verify._check.problem import problem
from lossjax.verify._check.programs import Pair
from lossjax.verify._check.rule import check_rule
from lossjax.verify.samples import DTYPES, Sample, names, sample
from lossjax.verify.workers import Pool, pool_of, run_all

_ACCURACY = ("value", "gradient")


@dataclasses.dataclass(frozen=True)
class Certified(Finding):
    """What became of one loss in one dtype: the larger error of value and gradient, and how many u are allowed."""

    dtype: str = ""
    certificate: Certificate = dataclasses.field(default_factory=lambda: Certificate("", ()))

    @classmethod
    def of(cls, name: str, dtype: str, allowed: float, statement: str, certificate: Certificate) -> "Certified":
        """What a certificate says: whether every question was answered well, and accuracy was judged."""
        of_accuracy = [row for row in certificate.rows if row.name in _ACCURACY]
        everywhere = not any(row.statement.startswith(NOT_AVAILABLE) for row in certificate.rows)
        ok = bool(certificate.ok) and everywhere and all(row.ok for row in of_accuracy)
        measured = max((row.measured for row in of_accuracy), default=math.inf)
        return cls(name, ok, measured, allowed, statement, dtype=dtype, certificate=certificate)

    def units(self, name: str) -> float:
        """The largest error of the ``value`` or the ``gradient``."""
        return next(row.measured for row in self.certificate.rows if row.name == name)


Progress = Callable[[Certified], None]


def losses(
    *, only: Sequence[str] = (), dtypes: Sequence[str] = DTYPES, progress: Progress | None = None, processes: int = 1
) -> list[Certified]:
    """Certify the public losses of lossjax: :func:`lossjax.verify.check` on each, with arguments made for it.

    In float32 all questions are asked. Those about the rule and the transformations are answered on float64 copies of
    the arguments, so they need not be asked again in other dtypes: there the accuracy of value and gradient is
    measured, and the rule, as it is written for that dtype, is checked at one example.

    Args:
      only: names of losses; none means all.
      dtypes: some of "float32", "float64", "bfloat16" and "float16" (64-bit mode is switched on and off as needed).
      progress: called with each result when it is there.
      processes: how many to check in at once; more than 1 needs a main module that can be imported again.

    Returns:
      One result per loss and dtype: ``.name``, ``.dtype``, ``.ok``, ``.measured`` and ``.allowed`` (u of result and
      inputs), ``.statement``, ``.certificate``.

    Raises:
      ValueError: a name that is no public loss, or a dtype other than these.

    Example:
      >>> from lossjax.verify import losses
      >>> results = losses(only=["squared_error"], dtypes=["bfloat16"])
      >>> [result.ok for result in results]
      [True]
    """
    every = names()
    for name in only:
        if name not in every:
            raise ValueError(f"there is no loss {name!r}; there are {', '.join(every)}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"dtypes has {dtype!r}, wanted some of {', '.join(DTYPES)}")
    with pool_of(processes) as pool:
        return certify_all(only, dtypes, progress, pool)


COSTLY = ("softmax_js_divergence", "softmax_kl_divergence", "student_t_nll", "cosine_distance", "cosine_similarity")
"""The losses that take longest to certify. They come first, so that no process waits for them at the end."""


def certify_all(
    only: Sequence[str], dtypes: Sequence[str], progress: Progress | None, pool: Pool | None
) -> list[Certified]:
    """What :func:`losses` returns, for arguments that were checked, by a pool that may do other work too."""
    chosen = sorted((n for n in names() if not only or n in only), key=lambda name: name not in COSTLY)
    return run_all(certify, [(name, dtype) for dtype in dtypes for name in chosen], pool, progress)


def certify(name: str, dtype: str) -> Certified:
    """The certificate of one loss in one dtype."""
    wide = jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()
    with wide:
        one = sample(name, jax.numpy.dtype(dtype))
        if dtype == DTYPES[0]:
            found = check(one.loss, *one.arguments, argnums=one.argnums, checks=CHECKS, ulps=one.ulps)
            tried = "rule, value, gradient, every transformation, edges"
        else:
            found = _accuracy(one)
            tried = "value, gradient, and the rule at an example"
    statement = f"{name} in {dtype}: {tried}; errors in u of result and inputs"
    return Certified.of(name, dtype, one.ulps, statement, found)


def _accuracy(one: Sample) -> Certificate:
    """The accuracy in the arguments' own dtype, and whether the rule is the formula's derivative in that dtype."""
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        of = problem(one.loss, one.arguments, one.argnums)
        families = variations(of, 0)
        pair = Pair(of, None, 0, wide=False)
        rows: list[Row] = [
            *check_rule(of, families[:1], None, pair, 0),
            *check_accuracy(pair, families, None, _ACCURACY, one.ulps, 0),
        ]
    return Certificate(one.name, tuple(rows), time.perf_counter() - start)
