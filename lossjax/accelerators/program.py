"""A function compiled for a chip, and the facts of the program."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from lossjax.accelerators import chips
from lossjax.accelerators.chips import Chip, NotPossible
from lossjax.accelerators.text import Program


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a program does on its chip, in bytes and numbers of kernels."""

    moved: int
    """Bytes that its kernels read and write."""
    temporary: int
    """Bytes of memory beside arguments and results."""
    held: int
    """Bytes of arguments and results."""
    kernels: int
    collectives: dict[str, int]
    """How often each kind of collective is done, by ``kind of dtype``."""

    def milliseconds(self, chip: Chip) -> float:
        """The least time that moving the bytes takes."""
        return 1e3 * self.moved / chip.bandwidth


def compiled_for(chip: Chip, function: Callable[..., Any], *shapes: Any) -> Facts:
    """Compile a function for a chip, and read the program.

    Args:
      chip: which one; it need not be there.
      function: any function that ``jax.jit`` takes.
      shapes: ``jax.ShapeDtypeStruct`` of its arguments. Where one has no sharding, all are on one device.

    Raises:
      NotPossible: with one sentence, if the compiler is missing, or if the program does not fit the chip.
    """
    device = chips.devices(chip)[0]
    given = [
        shape
        if shape.sharding is not None
        else jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=SingleDeviceSharding(device))
        for shape in shapes
    ]
    if sum(map(_bytes_on_a_device, given)) > chip.memory:  # before JAX counts the entries in 32 bits
        raise _too_large(chip, shapes)
    try:
        with _nothing_kept():
            compiled = jax.jit(function).lower(*given).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise _too_large(chip, shapes) from error
        raise
    memory: Any = compiled.memory_analysis()
    temporary = int(memory.temp_size_in_bytes)
    held = int(memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes)
    if temporary + held > chip.memory:
        raise _too_large(chip, shapes)
    program = Program(compiled.as_text() or "")
    sent = {f"{kind} of {dtype}": times for (kind, dtype), times in sorted(program.collectives().items())}
    return Facts(program.moved(), temporary, held, sum(times for _, _, times in program.kernels()), sent)


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """Without JAX's cache of compiled programs on disk, which keeps a chip's program but needs the chip to load it."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # JAX looks at the setting once
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _bytes_on_a_device(shape: Any) -> int:
    return math.prod(shape.sharding.shard_shape(shape.shape)) * shape.dtype.itemsize


def _too_large(chip: Chip, shapes: Sequence[Any]) -> NotPossible:
    sizes = ", ".join(f"{tuple(shape.shape)} {shape.dtype}" for shape in shapes)
    return NotPossible(f"{sizes}: too large for the {chip.memory / 1e9:.0f} GB of {chip.name}")
