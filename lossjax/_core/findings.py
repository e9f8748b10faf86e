"""What every check reports: a statement, the number that was measured for it, and the number that is allowed."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Finding:
    """One statement and what became of it.

    Attributes:
      name: what is judged, in a word or two.
      ok: True, False, or None where it could not be judged; the statement then says why.
      measured: the worst that was found, in the unit that the statement names.
      allowed: the most that is let pass (of what is to be refuted: the least).
      statement: what is claimed or asked, in words.
    """

    name: str
    ok: bool | None
    measured: float = 0.0
    allowed: float = 0.0
    statement: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as data that JSON can hold."""
        return plain(self)


def plain(value: Any) -> Any:
    """Data for JSON: dataclasses become objects, tuples lists, and numbers that JSON lacks (inf, NaN) strings."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
