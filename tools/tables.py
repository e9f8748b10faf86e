"""Bring every table of the documents up to date that is measured, or read from the functions: `make tables`.

Which function of logits takes which option is what the signatures say. The errors on handwritten digits are what the
first example prints; times and memory are the recorded results in `benchmarks/results`, which `lossjax bench --json`
writes, each suite on the page that discusses it and the steps of training in the README; the certified errors are those
of `lossjax verify`, and take minutes. (The table of features is prose, kept true by `tests/contract/test_features.py`.)
"""

import inspect
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import lossjax
from lossjax.bench import Measured, markdown_tables, report

ROOT = Path(__file__).resolve().parents[1]
README, ACCURACY = ROOT / "README.md", ROOT / "docs" / "accuracy.md"
LOSSES = ROOT / "docs" / "losses.md"
SHARED = (
    "axis", "where", "ignore_index", "logit_softcap", "temperature", "label_smoothing", "smoothing", "class_weights",
    "z_loss", "weights", "normalizer", "reduction", "base", "return_logsumexp",
)  # fmt: skip
"""The options that several functions of logits share, in the order in which docs/api/options.md explains them."""
SUITES = {
    "benchmarks": ("rows", "head"),
    "benchmarks_of_losses": ("options", "divergences"),
    "post_training_heads": ("heads",),
}
"""The suites of `lossjax bench` whose recorded results a page of the documents shows."""
ERRORS = re.compile(r"^ (\S.*?) {2,}(\S+) +≤ \S+u +(\S+) +optax *$", re.MULTILINE)
STEP = re.compile(r"(?P<what>value_and_grad|head) \((?P<shape>[\d, ]+)\) (?P<dtype>\w+)")


def options() -> str:
    """Of every public function of logits, or of what logits are made of, which options it takes."""
    pages = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md"))}
    rows = []
    for name in sorted(lossjax.__all__):
        one = getattr(lossjax, name)
        parameters = inspect.signature(one).parameters if inspect.isfunction(one) else {}
        if next(iter(parameters), "") not in ("logits", "logits_p", "hidden"):
            continue
        taken = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        page = next(page for page, text in pages.items() if f"\n::: lossjax.{name}\n" in f"{text}\n")
        own = ", ".join(f"`{option}`" for option in taken if option not in SHARED)
        rows.append((f"[`{name}`](api/{page}#lossjax.{name})", *("✓" * (o in taken) for o in SHARED), own))
    head = ("function", *(f"`{option}`" for option in SHARED), "its own")
    return table([head, ("---", *(":---:",) * len(SHARED), "---"), *rows])


def digits(printed: str) -> str:
    """Of what the example prints, a Markdown table."""
    rows = [(name, *map(figure, numbers)) for name, *numbers in ERRORS.findall(printed)]
    if not rows:
        sys.exit(f"the example prints no errors:\n{printed}")
    return table([("largest error, in ulp", "lossjax", "optax"), ("---",) * 3, *rows])


def figure(number: str) -> str:
    """In digits: 1.6e+07 is 16 000 000."""
    return number if "e" not in number else f"{float(number):,.0f}".replace(",", " ")


def steps(measured: Sequence[Measured]) -> str:
    """Of the results, a table with one line for each number of classes: value and gradient beside optax's."""
    cells: dict[str, dict[str, tuple[str, str]]] = {}
    bytes_of = {(one.problem, one.peer): one.temporary_bytes for one in measured}
    for one in measured:
        if (step := STEP.fullmatch(one.problem)) and one.peer == "lossjax":
            memory = (mebibytes(bytes_of[one.problem, peer] or 0) for peer in ("lossjax", "optax"))
            sizes = " × ".join(f"{int(size):,}" for size in step["shape"].split(", "))
            name = f"{'head, ' * (step['what'] == 'head')}{sizes}"
            cells.setdefault(name, {})[step["dtype"]] = (f"{one.ratio:.2f}", " / ".join(memory))
    dtypes = ("float32", "bfloat16")
    head = (
        "rows × (hidden ×) classes",
        *(f"{dtype}: {name}" for dtype in dtypes for name in ("time", "MiB, ours / optax's")),
    )
    rows = [(name, *(cell for dtype in dtypes for cell in row[dtype])) for name, row in cells.items()]
    return table([head, ("---", *("---:",) * 4), *rows])


def mebibytes(count: int) -> str:
    """Of bytes, with two digits or whole."""
    size = count / 2**20
    return f"{size:,.0f}" if size >= 100 else f"{size:.2g}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def recorded(page: str) -> list[Measured]:
    """The results that this page shows."""
    files = [ROOT / f"benchmarks/results/cpu_{suite}.json" for suite in SUITES[page]]
    return [one for file in files for one in report.read_json(file)[1]]


def main() -> None:
    """Table by table."""
    markdown_tables.replace(LOSSES, "options", options())
    command = [sys.executable, str(ROOT / "examples" / "01_train_digits.py")]
    example = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    markdown_tables.replace(ACCURACY, "digits", digits(example.stdout))
    markdown_tables.replace(README, "steps", steps(recorded("benchmarks")))
    for page in SUITES:
        markdown_tables.replace(ROOT / "docs" / f"{page}.md", "bench", report.markdown(recorded(page)))
    certify = [sys.executable, "-m", "lossjax", "verify", "--all", "--markdown", str(ACCURACY)]
    subprocess.run(certify, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
