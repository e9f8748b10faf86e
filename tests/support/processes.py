"""The environment of the Python processes that tests start."""

import os

from tests.support.paths import ROOT


def environment(**more: str) -> dict[str, str]:
    """This checkout, the compilation cache of the tests, and programs compiled with little effort.

    What these processes print does not hang on how their programs are optimised, and compiling takes most of their
    time.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "XLA_FLAGS")}
    return (
        inherited
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        }
        | more
    )
