"""Compiled programs that are started only where their loops are known to end.

A ``while_loop`` that ends at the example may go on for ever at other arguments: Newton's root of a negative number. A
compiled program cannot be stopped, exact execution can: it refuses a loop that goes on and on.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from lossjax.verify._check.inlining import uses
from lossjax.verify._exact.interpreter import interpret

_BITS = 256

R = TypeVar("R")


def compiled(function: Callable[..., R], *examples: Any) -> Callable[..., R]:
    """``jax.jit(function)``, executed exactly before each call if there is a loop in it that may have no end.

    What exact execution raises, it raises too: whether the loop ends is then not known.
    """
    program = jax.jit(function)
    jaxpr = program.trace(*examples).jaxpr  # remembered by the program, which then traces nothing
    if not uses(jaxpr, ("while",)):
        return program

    @functools.wraps(function)
    def started(*args: Any) -> R:
        interpret(jaxpr, jax.tree.leaves(args), _BITS)
        return program(*args)

    return started
