"""A family of random equations by JAX and in exact arithmetic, compiled with little effort."""

from typing import Any

import jax
from jax.core import Tracer

from tests.support.equations import Families
from tests.support.exactness import compared
from tests.support.quick import quick


def assert_as_jax(families: Families, name: str) -> None:
    """As ``families.compare``. What JAX computes is exact, or right to many roundoffs, whatever the compiler's effort.

    Traced, to be executed exactly, the program is itself: only what is outermost can be compiled so.
    """
    program, args = families.program(name)
    *_, units, whole = families[name]
    fast = quick(program)

    def either(given: Any) -> Any:
        return (program if isinstance(jax.tree.leaves(given)[0], Tracer) else fast)(given)

    compared(either, args, units, whole=whole)
