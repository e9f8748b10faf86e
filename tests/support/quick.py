"""Compiling with little effort: most of what these tests cost is compiling."""

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
