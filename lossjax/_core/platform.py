"""Which formula on which kind of chip, decided when a program is lowered.

A program may be lowered for another machine than the one that traces it: ahead of time, by ``jax.export``, or for the
CPU of a host that has a GPU. So nothing asks at trace time which backend the process has. All formulas are traced, and
the one for the platform at hand is the only one that is compiled.

To give one kind of chip a formula of its own (a kernel, say), write it beside the formula that it replaces, with the
same arguments and result, and choose between the two here. The formula called ``otherwise`` stays the definition:
``.plain`` and ``lossjax.verify.exact`` see it alone, and the tests compare the other ones with it.

A formula may choose again, in a sum of its own. There only the platforms that it was chosen for are left, so that a
choice inside a choice is no choice any more, as a rule: without that a program of second derivatives holds each formula
of a divergence several times for each platform, and takes three times as long to trace. What a derivative's rule
traces later, when the formula has been left, is traced for the same platforms: ``packed.Structure`` remembers them.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jax import lax

from lossjax._core.plain import rules_are_off

R = TypeVar("R")

ACCELERATORS = ("tpu", "cuda", "rocm")
"""The platforms, as ``lax.platform_dependent`` names them, that get the formula for accelerators."""

Platforms = frozenset[str]
KERNELS: Platforms = frozenset({"tpu", "cuda"})
"""The platforms that have kernels of whole rows."""
ANY_OTHER = "any other"
"""A platform that no formula is written for; exact arithmetic is one."""
ALL: Platforms = frozenset({"cpu", *ACCELERATORS, ANY_OTHER})

_traced_for: contextvars.ContextVar[Platforms] = contextvars.ContextVar("lossjax_traced_for", default=ALL)


def platforms() -> Platforms:
    """The platforms that what is traced here may be lowered for."""
    return _traced_for.get()


@contextlib.contextmanager
def traced_for(platforms: Platforms) -> Iterator[None]:
    """While a formula is traced that was chosen for these platforms alone."""
    token = _traced_for.set(platforms)
    try:
        yield
    finally:
        _traced_for.reset(token)


def by_platform(
    *arguments: Any,
    otherwise: Callable[..., R],
    cpu: Callable[..., R] | None = None,
    accelerator: Callable[..., R] | None = None,
    tpu: Callable[..., R] | None = None,
) -> R:
    """Evaluate one of several formulas of the same value.

    Args:
      arguments: pytrees of arrays, the arguments of each.
      otherwise: the definition, and the formula for every platform that is given none of its own.
      cpu: the formula that XLA's CPU backend makes a good program of.
      accelerator: that for GPU and TPU.
      tpu: that for TPU alone.
    """
    if rules_are_off():
        return otherwise(*arguments)
    given = {"cpu": cpu, **dict.fromkeys(ACCELERATORS, accelerator)}
    given["tpu"] = tpu or accelerator
    chosen: dict[Callable[..., R], list[str]] = {}
    for platform in sorted(platforms()):
        chosen.setdefault(given.get(platform) or otherwise, []).append(platform)
    default = otherwise if otherwise in chosen else next(iter(chosen))
    if len(chosen) == 1:
        return default(*arguments)
    branches = {formula: _for_these(formula, frozenset(these)) for formula, these in chosen.items()}
    others = {here: branches[formula] for formula, these in chosen.items() if formula is not default for here in these}
    return lax.platform_dependent(*arguments, default=branches[default], **others)


def _for_these(formula: Callable[..., R], platforms: Platforms) -> Callable[..., R]:
    """A new function each time: JAX would take what it has traced of another one for other platforms."""

    def branch(*arguments: Any) -> R:
        with traced_for(platforms):
            return formula(*arguments)

    return branch
