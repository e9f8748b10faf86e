"""Tables that a command writes into a Markdown file, between two marks."""

from pathlib import Path


def around(path: Path, name: str) -> tuple[str, str]:
    """The text of a file up to its mark ``<!-- name -->``, and from ``<!-- end of name -->`` on, with both marks."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, mark, rest = path.read_text(encoding="utf-8").partition(start)
    _, last, after = rest.partition(end)
    if not (mark and last):
        raise ValueError(f"{path} has no table to replace: mark it by {start} and {end}")
    return before + start, end + after


def replace(path: Path, name: str, table: str) -> None:
    """Put the table between the marks of this name. Raise ValueError where they are missing."""
    before, after = around(path, name)
    path.write_text(f"{before}\n{table}\n{after}", encoding="utf-8")
