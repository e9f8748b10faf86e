"""Which formula on which kind of chip, decided when a program is lowered.

A program may be lowered for another machine than the one that traces it: ahead of time, by ``jax.export``, or for the
CPU of a host that has a GPU. So nothing asks at trace time which backend the process has. All formulas are traced, and
the one for the platform at hand is the only one that is compiled.

To give one kind of chip a formula of its own (a kernel, say), write it beside the formula that it replaces, with the
same arguments and result, and choose between the two here. The formula called ``otherwise`` stays the definition:
``.plain`` and ``lossjax.verify.exact`` see it alone, and the tests compare the other ones with it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from jax import lax

from lossjax._core.plain import rules_are_off

R = TypeVar("R")

ACCELERATORS = ("tpu", "cuda", "rocm")
"""The platforms, as ``lax.platform_dependent`` names them, that get the formula for accelerators."""


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
    formulas = {platform: formula for platform, formula in given.items() if formula is not None}
    return lax.platform_dependent(*arguments, default=otherwise, **formulas)
