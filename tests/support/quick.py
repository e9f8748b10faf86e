"""Compiling without optimisation, which is most of what compiling costs here."""

from collections.abc import Callable
from typing import Any

import jax


def quick(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Jitted, outermost: for programs compared with each other, or for what is NaN; not for what is judged by ulps."""
    return jax.jit(function, **options, compiler_options={"xla_backend_optimization_level": "0"})
