"""The certified losses as a table for a person, and as the table of a Markdown file."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from lossjax.verify import tables
from lossjax.verify._losses import Certified
from lossjax.verify.samples import DTYPES


def table(results: Sequence[Certified]) -> Table:
    """One row per loss: the errors of value and gradient in each dtype, and whether all is well."""
    dtypes = [d for d in DTYPES if any(r.dtype == d for r in results)]
    title = (
        "Losses: largest errors of value, gradient in u of result and inputs; "
        "✓ says that rule, transformations and edges are right as well"
    )
    one = tables.table(title, [("loss", "long name"), *((head, "number") for head in (*dtypes, ""))])
    for name, group in _by_name(results):
        found = {r.dtype: r for r in group}
        cells = (_errors(found[d]) if d in found else "" for d in dtypes)
        one.add_row(name, *cells, tables.mark(all(r.ok for r in group)))
    return one


def _by_name(results: Iterable[Certified]) -> list[tuple[str, list[Certified]]]:
    ordered = sorted(results, key=lambda r: (r.name, DTYPES.index(r.dtype)))
    return [(name, list(group)) for name, group in groupby(ordered, key=lambda r: r.name)]


def _errors(one: Certified) -> Text:
    text = ", ".join(tables.number(round(one.units(name), 1)) for name in ("value", "gradient"))
    return tables.coloured(text, one.measured <= one.allowed)


def failures(results: Iterable[Certified]) -> list[str]:
    """One line for each thing that falls short."""
    return [f"{r.name} ({r.dtype}): {line}" for r in results if not r.ok for line in r.certificate.failures]


def summary(results: Sequence[Certified]) -> str:
    """In words, how many losses are certified in which dtypes; nothing for no losses."""
    names, dtypes = {r.name for r in results}, {r.dtype for r in results}
    failed = sorted({r.name for r in results if not r.ok})
    if failed:
        return f"{len(failed)} of {len(names)} losses fall short: {', '.join(failed)}"
    ordered = ", ".join(d for d in DTYPES if d in dtypes)
    return f"All {len(names)} losses are certified in {ordered}" if names else ""


def markdown(results: Sequence[Certified]) -> str:
    """The errors, each rounded up to whole u."""
    lines = [f"| loss | {' | '.join(DTYPES)} |", "|---" * (1 + len(DTYPES)) + "|"]
    for name, group in _by_name(results):
        found = {r.dtype: r for r in group}
        cells = [", ".join(str(math.ceil(found[d].units(k))) for k in ("value", "gradient")) for d in DTYPES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)
