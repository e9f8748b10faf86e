"""Bring every measured table of the README up to date: `make readme`.

The errors on handwritten digits are what the first example prints; times and memory are the recorded results in
`benchmarks/results`, which `lossjax bench --json` writes; the certified errors are those of `lossjax verify`, and take
minutes. (The table of features is prose: `tests/contract/test_features.py` keeps it true.)
"""

import re
import subprocess
import sys
from pathlib import Path

from lossjax.bench import markdown_tables

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
ERRORS = re.compile(r"^ (\S.*?) {2,}(\S+) +≤ \S+u +(\S+) +optax *$", re.MULTILINE)


def digits(printed: str) -> str:
    """Of what the example prints, a Markdown table."""
    rows = [(name, *map(figure, numbers)) for name, *numbers in ERRORS.findall(printed)]
    if not rows:
        sys.exit(f"the example prints no errors:\n{printed}")
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [("largest error, in ulp", "lossjax", "optax"), ("---",) * 3, *rows]
    )


def figure(number: str) -> str:
    """In digits: 1.6e+07 is 16 000 000."""
    return number if "e" not in number else f"{float(number):,.0f}".replace(",", " ")


def main() -> None:
    """Table by table."""
    command = [sys.executable, str(ROOT / "examples" / "01_train_digits.py")]
    example = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    markdown_tables.replace(README, "digits", digits(example.stdout))
    results = [
        f"--results={path}" for name in ("rows", "head") for path in ROOT.glob(f"benchmarks/results/*_{name}.json")
    ]
    for arguments in (["bench", *results], ["verify", "--all"]):
        subprocess.run([sys.executable, "-m", "lossjax", *arguments, "--markdown", str(README)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
