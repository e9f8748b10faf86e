"""What a compiled program says of itself."""

import re
from collections.abc import Callable
from typing import Any

import jax


def text_of(fn: Callable[..., Any], *args: Any) -> str:
    """The compiled program, as XLA prints it."""
    return jax.jit(fn).lower(*args).compile().as_text() or ""


def collectives(text: str) -> list[tuple[str, int]]:
    """Name and size, in numbers, of everything that crosses devices."""
    pattern = r"= (.+?) (all-gather|all-to-all|all-reduce|collective-permute|reduce-scatter)(?:-start)?\("
    return sorted((name, _numbers(shape)) for shape, name in re.findall(pattern, text))


def _numbers(shapes: str) -> int:
    """Of ``f32[4,512]{1,0}``, or of a tuple of such."""
    total = 0
    for sides in re.findall(r"[a-z]\w*\[([\d,]*)\]", shapes):
        size = 1
        for side in filter(None, sides.split(",")):
            size *= int(side)
        total += size
    return total
