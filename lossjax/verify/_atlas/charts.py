"""What was found of each function, as a table for a person, in Markdown, and as JSON for a program."""

import dataclasses
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console, Group
from rich.text import Text

from lossjax.verify import tables
from lossjax.verify._atlas import domains
from lossjax.verify._atlas.survey import NOTHING, Peak, Survey

_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Chart:
    """The worst of one function.

    What is worst, a ``Peak``, has five attributes: its ``size``; ``arguments``, those at which it was found; ``entry``,
    which number of the result it is in (``value``, or ``d/d0`` for the derivative in argument 0, with indices);
    ``got``, what came; and ``want``, what is true. Where nothing was found the size is 0 and the entry is empty.

    Attributes:
      name: of the function.
      domain: the kinds of its arguments.
      points: how many were measured at which the truth of the value is known.
      value: the largest error of the value, in ulps.
      gradient: the largest error of a derivative, in ulps.
      value_units: the largest error of the value in units of roundoff of result and inputs.
      gradient_units: the same of a derivative.
      lost: one point at which infinity or NaN came and the truth is finite; ``size`` counts such points.
      undecided: how many points exact execution could not decide.
      allowed: how many units are let pass.
      why: why the function was not measured; empty if it was.
      beside: the chart of the function of lossjax that computes the same, if there is one.
    """

    name: str
    domain: tuple[str, ...] = ()
    points: int = 0
    value: Peak = NOTHING
    gradient: Peak = NOTHING
    value_units: Peak = NOTHING
    gradient_units: Peak = NOTHING
    lost: Peak = NOTHING
    undecided: int = 0
    allowed: float = 8
    why: str = ""
    beside: "Chart | None" = None

    @staticmethod
    def of(name: str, survey: Survey, allowed: float) -> "Chart":
        """All that a survey found."""
        everywhere = range(len(survey.ulps))
        parts = {part: survey.peak(survey.ulps, everywhere, part) for part in ("value", "gradient")}
        units = {part: _in_units(survey, part, allowed) for part in ("value", "gradient")}
        known = survey.finite[:, survey.of("value")].any(axis=1)
        lost = [survey.described(int(i), int(j), float("inf")) for i, j in np.argwhere(survey.lost)]
        lost += survey.without_derivative()
        why = "" if known.any() else "the truth is known at none of the points"
        return Chart(
            name, survey.subject.words, int(known.sum()), parts["value"], parts["gradient"], units["value"],
            units["gradient"], _simplest(lost)._replace(size=len(lost)) if lost else NOTHING,
            int(survey.undecided.sum()), allowed, why,
        )  # fmt: skip

    @property
    def worst(self) -> float:
        """The largest error in units; infinite where a result was lost."""
        return math.inf if self.lost.size else max(self.value_units.size, self.gradient_units.size)

    @property
    def ok(self) -> bool | None:
        """Whether all errors are within what is allowed; None if the function was not measured."""
        return None if self.why else self.worst <= self.allowed

    @property
    def finding(self) -> Peak:
        """The point to look at: the value's error before the derivative's, if it is too large."""
        if self.lost.size:
            return self.lost
        value, gradient = self.value_units, self.gradient_units
        return value if value.size > self.allowed or value.size >= gradient.size else gradient


def _in_units(survey: Survey, part: str, allowed: float) -> Peak:
    points, sizes = survey.units(part, allowed / 2)
    return survey.peak(sizes, points, part, simplest=True)


def _simplest(peaks: Sequence[Peak]) -> Peak:
    """A value before a derivative, and the arguments that are closest to 1."""

    def far(peak: Peak) -> tuple[bool, float]:
        numbers = [abs(x) for x in np.concatenate([np.ravel(a) for a in peak.arguments]).tolist() if x]
        return not peak.entry.startswith("value"), max((abs(math.log(x)) for x in numbers), default=0.0)

    return min(peaks, key=far)


def shown(peak: Peak, dtype: str) -> str:
    """The arguments of a point with as many digits as the dtype needs."""
    return ", ".join(_shown(a, dtype) for a in peak.arguments)


def _shown(argument: Any, dtype: str) -> str:
    if isinstance(argument, list):
        return f"[{', '.join(_shown(a, dtype) for a in argument)}]"
    if isinstance(argument, int):
        return str(argument)
    written = repr(float(f"{argument:.{domains.digits(argument, jnp.dtype(dtype))}g}"))
    return written.removesuffix(".0")


@dataclasses.dataclass(frozen=True)
class Atlas:
    """The charts of several functions.

    Attributes:
      charts: one for each function, in its order.
      dtype: of the arguments.
      versions: of Python, of JAX, and of the libraries that the functions come from.
    """

    charts: tuple[Chart, ...]
    dtype: str = "float32"
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool | None:
        """Whether all that was measured is within what is allowed; None if nothing was measured."""
        judged = [chart.ok for chart in self.charts if chart.ok is not None]
        return all(judged) if judged else None

    @property
    def exit_code(self) -> int:
        """0 where all is well, 1 where something is not, 3 where nothing could be measured (2 is a wrong request)."""
        return {True: 0, False: 1, None: 3}[self.ok]

    @property
    def worst_first(self) -> list[Chart]:
        """What was measured, then what was not."""
        return sorted(self.charts, key=lambda c: (bool(c.why), -c.worst, -max(c.value.size, c.gradient.size)))

    def to_json(self) -> str:
        """An object with dtype, versions, ok, and charts; null for what is not judged, and for inf and NaN."""
        charts = [_plain(one) for one in self.charts]
        found = {"dtype": self.dtype, "versions": self.versions, "ok": self.ok, "charts": charts}
        return json.dumps(found, indent=1, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "Atlas":
        """The atlas that :meth:`to_json` wrote: null is infinity for the size of an error, and NaN for a result."""
        found = json.loads(text)
        return Atlas(tuple(map(_chart, found["charts"])), found["dtype"], found["versions"])

    @property
    def _compared(self) -> bool:
        return any(one.beside for one in self.charts)

    def markdown(self) -> str:
        """A table, the worst function first."""
        heads = [
            "function",
            "value",
            "derivative",
            "units",
            *(["lossjax"] if self._compared else []),
            "at",
            "came",
            "true",
        ]
        lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 4)}---|---:|---:|"]
        for one in self.worst_first:
            numbers, where, got, want = self._cells(one)
            where = f"not measured: {one.why.replace('|', '/')}" if one.why else f"`{where}`" if where else ""
            lines.append(f"| {' | '.join([f'`{one.name}`', *numbers, where, got, want])} |")
        return "\n".join(lines)

    def _cells(self, one: Chart) -> tuple[list[str], str, str, str]:
        """Numbers of errors; and of what is too large, where it is, what came, and what is true."""
        beside = [tables.number(one.beside.worst) if one.beside else ""] if self._compared else []
        if one.why:
            return ["", "", "", *beside], "", "", ""
        numbers = [*(tables.number(p.size) for p in (one.value, one.gradient)), tables.number(one.worst), *beside]
        if one.ok:
            return numbers, "", "", ""
        peak = one.finding
        where = f"{shown(peak, self.dtype)}{'' if peak.entry == 'value' else f' ({peak.entry})'}"
        return numbers, where, f"{peak.got:.6g}", f"{peak.want:.6g}"

    def __rich__(self) -> Group:
        columns: list[tuple[str, tables.Kind]] = [
            ("", "number"), ("function", "long name"), ("value", "number"), ("derivative", "number"),
            ("units", "number"), *([("lossjax", "number")] if self._compared else []), ("worst at", "words"),
        ]  # fmt: skip
        table = tables.table(
            f"Largest errors in {self.dtype}, in ulps, and in units of roundoff of result and inputs", columns
        )
        for one in self.worst_first:
            (value, gradient, units, *beside), where, got, want = self._cells(one)
            words = f"not measured: {one.why}" if one.why else f"{where}: {got}, true {want}" if where else ""
            table.add_row(
                tables.mark(one.ok), one.name, value, gradient, tables.coloured(units, one.ok), *beside,
                Text(words, style="dim" if one.why else ""),
            )  # fmt: skip
        return Group(table, self._verdict())

    def _verdict(self) -> Text:
        judged = [chart for chart in self.charts if chart.ok is not None]
        wrong = sum(not chart.ok for chart in judged)
        rest = f" {len(self.charts) - len(judged)} not measured." if len(judged) < len(self.charts) else ""
        if not judged:
            return Text("Nothing could be measured: see above.", style="bold yellow")
        if wrong:
            return Text(
                f"{wrong} of {len(judged)} functions exceed {judged[0].allowed:g} units.{rest}", style="bold red"
            )
        return Text(f"All {len(judged)} functions are within {judged[0].allowed:g} units.{rest}", style="bold green")

    def __str__(self) -> str:
        stream = io.StringIO()
        Console(file=stream, width=_WIDTH, no_color=True).print(self)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


_PEAKS = ("value", "gradient", "value_units", "gradient_units", "lost")


def _plain(one: Chart) -> dict[str, Any]:
    """A chart as data that JSON can hold."""
    fields = {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
    for name, value in fields.items():
        if isinstance(value, Peak):
            fields[name] = _finite(value._asdict()) if value.entry else None
        if isinstance(value, Chart):
            fields[name] = _plain(value)
    return fields | {"ok": one.ok}


def _chart(data: dict[str, Any]) -> Chart:
    """The chart that these data are of."""

    def peak(of: dict[str, Any] | None) -> Peak:
        if not of:
            return NOTHING
        numbers: list[Any] = [math.nan if value is None else value for value in of.values()]
        return Peak(*numbers)._replace(size=math.inf if of["size"] is None else of["size"])

    fields: dict[str, Any] = {name: value for name, value in data.items() if name not in ("ok", "beside")}
    fields |= {name: peak(data[name]) for name in _PEAKS} | {"domain": tuple(data["domain"])}
    return Chart(**fields, beside=None if data["beside"] is None else _chart(data["beside"]))


def _finite(data: Any) -> Any:
    """Data for JSON, in which what is not finite is null."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data if not isinstance(data, float) or math.isfinite(data) else None
