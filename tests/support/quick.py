"""Compiling with little effort: most of what these tests cost is compiling."""

import threading
from collections.abc import Callable
from typing import Any

import jax

from lossjax._core.versions import OLDER_FUSIONS
from lossjax._core.xla import LITTLE_EFFORT

FUSED_AS_FOR_USERS = dict.fromkeys(OLDER_FUSIONS, True)
"""Options for ``jax.jit`` that undo what ``processes.XLA_FLAGS`` does to all programs."""


def quick(function: Callable[..., Any], **options: Any) -> jax.stages.Wrapped:
    """Jit a function with little effort; it must be the outermost transformation.

    This is for programs that are compared with each other, for edges and answers that are NaN, and for what a compiled
    program says of its memory and collectives. What is judged by ulps is compiled by ``jax.jit``, as a user's is.
    """
    return jax.jit(function, **options, compiler_options=LITTLE_EFFORT)


PROGRAMS_OF_A_CONTEXT = 10


def use_contexts_again() -> None:
    """Have JAX lower ten programs in one MLIR context, as JAX 0.12 does by itself.

    To make a context takes 3 to 7 ms, which is a third of what a program of one operation costs. The tests make some
    30,000 programs, most of one operation.
    """
    from jax._src.interpreters import mlir

    if hasattr(mlir, "_thread_local_context"):
        return
    made, here = mlir.make_ir_context, threading.local()

    def context() -> Any:
        if getattr(here, "left", 0) == 0:
            here.context, here.left = made(), PROGRAMS_OF_A_CONTEXT
        here.left -= 1
        return here.context

    mlir.make_ir_context = context
