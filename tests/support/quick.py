"""Compiling with little effort: most of what these tests cost is compiling."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax


def quick(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Jit a function with little effort; it must be the outermost transformation.

    This is for programs that are compared with each other, or whose answers are NaN. What is judged by ulps is compiled
    by ``jax.jit``, as a user's program is.
    """
    return jax.jit(function, **options, compiler_options=little_effort())


@cache
def little_effort() -> dict[str, Any]:
    """XLA's options: no optimisation by LLVM, and fusions written as LLVM code directly where XLA still has that way.

    It is there in JAX 0.10 and saves a third of the time; JAX 0.12 refuses the option.
    """
    least = {"xla_backend_optimization_level": "0"}
    direct = {**least, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: 0, compiler_options=direct).lower().compile()
    except jax.errors.JaxRuntimeError:
        return least
    return direct
