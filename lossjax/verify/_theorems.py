"""The claims of chapter 4.1 (``claim`` says of which book), checked on this machine."""

from collections.abc import Callable, Sequence

from lossjax.verify.claim import DTYPES, SECTIONS, Claim, Result, claims
from lossjax.verify.workers import Pool, pool_of, run_all

Progress = Callable[[Claim, str], None]


def theorems(
    *,
    dtypes: Sequence[str] = DTYPES,
    sections: Sequence[str] = (),
    progress: Progress | None = None,
    processes: int = 1,
) -> list[Result]:
    """Check theorems 4.1.1 to 4.1.6, equations (4.1.1) to (4.1.5), table 4.1.1 and each further claim of the chapter.

    Where the chapter is wrong, the result carries the correction; what is proven is the corrected statement, and the
    printed one is shown to fail.

    Args:
      dtypes: "float32", "float64" or both (64-bit mode is switched on and off as needed).
      sections: only these sections, as "4.1.5"; none means all.
      progress: called with each claim and dtype when it has been checked.
      processes: how many to check in at once; more than 1 needs a main module that can be imported again.

    Returns:
      One result per claim and dtype, in the chapter's order: ``.name`` ("4.1.1" is the theorem, "(4.1.1)" the
      equation), ``.ok``, ``.measured`` and ``.allowed`` (of the measurement nearest its limit; ``.measurements`` has
      all), ``.statement``, ``.correction``, ``.dtype``.

    Raises:
      ValueError: a section without claims, or a dtype other than these two.

    Example:
      >>> from lossjax.verify import theorems
      >>> results = theorems(dtypes=["float32"], sections=["4.1.3"])
      >>> all(result.ok for result in results)
      True

    Source: chapter 4.1, "Basic loss functions from the viewpoints of probability and geometry", of a textbook on the
    mathematics of loss functions.
    """
    for section in sections:
        if section not in SECTIONS:
            raise ValueError(f"sections has {section!r}, wanted some of {', '.join(SECTIONS)}")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ValueError(f"dtypes has {dtype!r}, wanted some of {', '.join(DTYPES)}")
    by_name = {claim.name: claim for claim in claims()}
    report = None if progress is None else lambda result: progress(by_name[result.name], result.dtype)
    with pool_of(processes) as pool:
        return prove(dtypes, sections, report, pool)


def prove(
    dtypes: Sequence[str], sections: Sequence[str], report: Callable[[Result], None] | None, pool: Pool | None
) -> list[Result]:
    """What :func:`theorems` returns, for arguments that were checked, by a pool that may do other work too."""
    every = enumerate(claims())
    work = [(i, d) for i, claim in every if not sections or claim.section in sections for d in dtypes]
    return run_all(_run, work, pool, report)


def _run(index: int, dtype: str) -> Result:
    return claims()[index].run(dtype)
