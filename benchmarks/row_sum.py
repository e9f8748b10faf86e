"""How a row is best cut into pieces on this CPU: the measurement behind the constants of ``_softmax/pieces.py``.

    python benchmarks/row_sum.py

For each width of the pieces: the time of Σ exp(z - m) without the label, as a multiple of XLA's own masked reduction,
both in one process and in turn. The width that lossjax takes is marked.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossjax._softmax import pieces, row_sum

SHAPES = ((65536, 10), (65536, 50), (4096, 1000), (256, 32768), (256, 50257))
WIDTHS = (1, 3, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048)
REPEATS = 15


def compiled(formula: Callable[..., Any], width: int | None, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """The sum with pieces of this width; None for the width that lossjax chooses, or for no pieces."""
    chosen = pieces.pieces_of
    if width is not None:
        pieces.pieces_of = lambda z, dtype: ((chosen(z, dtype) or (1, 0))[0], width)
    try:
        jax.clear_caches()
        return jax.jit(lambda *given: formula(row_sum.shifted_exponential, *given)).lower(*arguments).compile()
    finally:
        pieces.pieces_of = chosen


def ratio(one: Callable[..., Any], other: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """The least time of one over the least time of the other, measured in turn."""
    least = [float("inf")] * 2
    for _ in range(REPEATS):
        for i, function in enumerate((one, other)):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            least[i] = min(least[i], time.perf_counter() - start)
    return least[0] / least[1]


def main() -> None:
    """Print one row per shape and dtype, one column per width."""
    print(f"{'rows x classes, dtype':28}" + "".join(f"{width:>8}" for width in WIDTHS))
    for rows, classes in SHAPES:
        for dtype in (jnp.float32, jnp.bfloat16):
            random = np.random.default_rng(0)
            z = jnp.asarray(random.normal(size=(rows, classes)), dtype)
            index = jnp.asarray(random.integers(0, classes, (rows, 1)))
            arguments = index, (z,), jnp.max(z, axis=-1, keepdims=True).astype(jnp.float32)
            whole = compiled(row_sum.whole_sum_of_others, None, arguments)
            blocks, taken = pieces.pieces_of(z, jnp.float32) or (1, None)
            cells = []
            for width in WIDTHS:
                # More pieces than this compile for minutes.
                if width > classes // blocks or classes / blocks / width > 64:
                    cells.append(f"{'':>8}")
                    continue
                found = ratio(compiled(row_sum._by_pieces, width, arguments), whole, arguments)
                cells.append(f"{found:7.2f}{'*' if width == taken else ' '}")
            name = f"{rows} x {classes}, {jnp.dtype(dtype).name}"
            print(f"{name:28}" + "".join(cells) + f"  takes {taken or 'the whole row'}")


if __name__ == "__main__":
    main()
