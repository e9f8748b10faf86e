"""The environment of the tests' own process, and of the Python processes that tests start."""

import os
from importlib.metadata import version

from tests.support.paths import ROOT

# LLVM modules of one program, compiled by threads, cost more than they gain where two workers share two cores. And
# XLA's older way to write the code of a fusion takes half the time of the newer one, and gives the same numbers
# (support/test_quick.py); JAX 0.12 has no such flag, and an unknown one ends the process.
XLA_FLAGS = " ".join(
    [
        "--xla_cpu_parallel_codegen_split_count=1",
        *(["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []),
    ]
)
"""How all programs of tests are compiled."""


def environment(**more: str) -> dict[str, str]:
    """This checkout, the compilation cache of the tests, and programs compiled with little effort.

    What these processes print does not hang on how their programs are optimised, and compiling takes most of their
    time.
    """
    inherited = {k: v for k, v in os.environ.items() if k != "FORCE_COLOR"}
    return (
        inherited
        | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "XLA_FLAGS": XLA_FLAGS,
        }
        | more
    )
