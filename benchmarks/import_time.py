"""How long ``import lossjax`` takes beside ``import jax, optax``: fresh interpreters, paired and alternating.

Run: python benchmarks/import_time.py [PAIRS]
"""

import statistics
import subprocess
import sys
import time


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for code in ("import jax, optax", "import lossjax"):  # once for the disk's sake
        seconds(code)
    measured = [(seconds("import lossjax"), seconds("import jax, optax")) for _ in range(pairs)]
    ours, theirs = (statistics.median(side) for side in zip(*measured, strict=True))
    ratio = statistics.median(a / b for a, b in measured)
    print(f"import lossjax {ours:.3f} s, import jax, optax {theirs:.3f} s; median ratio of {pairs} pairs {ratio:.2f}")


if __name__ == "__main__":
    main()
