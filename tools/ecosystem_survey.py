"""Which functions of the JAX ecosystem ``lossjax.verify.exact`` executes, values and gradients.

    python tools/ecosystem_survey.py [--only jax.nn,optax] [--rows rows.jsonl] [--again] [--page docs/ecosystem.md]
    python tools/ecosystem_survey.py --rules [--only jax.nn,optax] [--page docs/ecosystem.md]

Every public function of the libraries that are installed is executed exactly and beside it by JAX in float64; it counts
if the two agree. A library runs in a process of its own; a function has 30 seconds of a processor. Rows are written as
they come, and those already there are not measured again (``--again`` measures those that failed). ``--page`` writes
the table. ``--rules`` asks ``lossjax.verify.check`` about those with a custom derivative in them, in float32, instead:
whether their gradient is right, under every transformation.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "jax.nn", "jax.numpy", "jax.numpy.linalg", "jax.numpy.fft", "jax.lax", "jax.lax.linalg", "jax.scipy.special",
    "jax.scipy.stats", "jax.scipy.linalg", "jax.scipy.signal", "jax.random", "jax.nn.initializers", "jax.ops", "optax",
    "flax", "equinox", "haiku", "distrax", "numpyro", "jaxopt", "ott", "e3nn_jax", "rax", "lineax", "optimistix",
    "diffrax", "tokamax",
)  # fmt: skip


def main() -> None:
    """Measure what was asked for, library by library, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(LIBRARIES), help="libraries, separated by commas")
    parser.add_argument("--names", default="", help="measure only functions whose name contains this")
    parser.add_argument("--rows", type=Path, help="the file of rows; by default one for each version of JAX")
    parser.add_argument("--again", action="store_true", help="measure again what failed")
    parser.add_argument("--rules", action="store_true", help="judge custom derivatives, instead of executing functions")
    parser.add_argument("--limit", type=float, default=30, help="seconds of a processor that a function may take")
    parser.add_argument("--page", type=Path, help="the page to write the table into")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kind, version = "rules" if options.rules else "survey", importlib.metadata.version("jax")
    path = options.rows or ROOT / ".pytest_cache" / f"{kind}-{version}.jsonl"
    if options.worker:
        from survey import judging, measuring, running

        of = judging.judged if options.rules else measuring.measured
        running.measure(options.only, options.names, path, options.again, lambda subject: of(subject, options.limit))
        return
    path.parent.mkdir(exist_ok=True)
    environment = os.environ | {
        "JAX_ENABLE_X64": "0" if options.rules else "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT}/tools",
    }  # fmt: skip
    for library in options.only.split(","):
        command = [sys.executable, "-W", "ignore", __file__, "--worker", "--only", library, "--rows", path]
        command += ["--names", options.names, "--limit", str(options.limit)]
        command += [f"--{flag}" for flag in ("again", "rules") if getattr(options, flag)]
        for _ in range(5):  # a crash costs the function that crashed, which is then known
            if subprocess.run(command, env=environment).returncode >= 0:
                break
    sys.path.insert(0, str(ROOT))
    from survey import table

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    text = table.judgements(rows) if options.rules else table.written(rows)
    print(text)
    if options.page:
        table.into(options.page, f"{kind}, JAX {'.'.join(version.split('.')[:2])}", text)


if __name__ == "__main__":
    main()
