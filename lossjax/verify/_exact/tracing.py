"""How a program is traced that will be executed exactly."""

import contextlib
from collections.abc import Iterator

from jax.experimental.xla_metadata import set_xla_metadata

from lossjax._core.platform import ANY_OTHER, traced_for


@contextlib.contextmanager
def by_definition() -> Iterator[None]:
    """While a program is traced that will be executed exactly: of each choice, trace the definition alone.

    JAX keeps what it has traced of a jitted function, and would later compile that. The metadata set it apart: they are
    part of the key under which a trace is kept.
    """
    with traced_for(frozenset({ANY_OTHER})), set_xla_metadata(lossjax="by definition"):
        yield
