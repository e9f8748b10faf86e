"""What a compiled program does, read from its text: the bytes its kernels move, and what its devices send each other.

XLA's own ``cost_analysis`` counts a loop's body once, sees nothing of a Pallas kernel, says nothing for a GPU, and
counts what a TPU keeps on the chip. The text has all of it. Three rules make bytes of it:

* A kernel reads each operand once and writes each result once. Of an operand of which it takes a slice, or gathers a
  few numbers, it reads those; of an array that it updates in place, it writes the update.
* What lies on the chip (memory space 1 and higher in a layout, as ``S(1)``) moves no bytes; its copy from memory does.
* A loop moves what its body moves, times its trips; of a conditional the dearest branch counts.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator

BITS = {"pred": 8, "token": 0, "opaque": 0}
"""Of the types whose name does not end in their width."""
FREE = frozenset(
    {
        *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier"),
        *("partition-id", "replica-id", "copy-done", "async-done", "async-update", "send-done", "recv-done"),
        *("all-reduce-done", "all-gather-done", "collective-permute-done"),
    }
)
"""Operations that name memory, or wait for what another one has begun."""
CALLS = frozenset({"call", "async-start"})
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")
TAKES_A_PART = frozenset({"gather", "dynamic-slice", "slice"})


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape: its type, its dimensions, and the bytes that it takes in the chip's main memory."""

    dtype: str
    dimensions: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.dimensions)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a program."""

    name: str
    kind: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def written(self) -> int:
        """The bytes of all results."""
        return sum(array.bytes for array in self.results)

    @property
    def elements(self) -> int:
        """The numbers of all results."""
        return sum(array.elements for array in self.results)

    def called(self, attribute: str) -> list[str]:
        """The computations that an attribute names."""
        found = re.search(rf"\b{attribute}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.attributes)
        return re.findall(r"[\w.\-]+", found.group(1) or found.group(2)) if found else []


Computation = dict[str, Operation]


def _closing(line: str, start: int) -> int:
    """The index of the bracket that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(line)):
        depth += (line[i] in "([{") - (line[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError(f"a bracket is not closed: {line}")


_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")


def arrays(shape: str) -> tuple[Array, ...]:
    """The arrays of a shape as XLA writes it, a tuple's one by one."""
    found = []
    for dtype, sizes, order, layout in _ARRAY.findall(shape):
        dimensions = tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        width = BITS.get(dtype, 0) if dtype in BITS else int((re.findall(r"\d+", dtype) or ["0"])[0])
        physical = [dimensions[int(i)] for i in reversed(order.split(",")) if i] if order else list(dimensions)
        tile = re.search(r"T\(([\d,]+)\)", layout or "")
        if tile:  # the innermost dimensions are filled up to whole tiles
            sides = [int(side) for side in tile.group(1).split(",")]
            physical = [1] * (len(sides) - len(physical)) + physical
            for i in range(1, len(sides) + 1):
                physical[-i] = -(-physical[-i] // sides[-i]) * sides[-i]
        on_chip = re.search(r"S\([1-9]\d*\)", layout or "")
        found.append(Array(dtype, dimensions, 0 if on_chip else math.prod(physical) * width // 8))
    return tuple(found)


def _operation(line: str) -> Operation | None:
    found = re.match(r"\s*(ROOT )?%?([\w.\-]+) = ", line)
    if not found:
        return None
    start = end = found.end()
    while line[end] != " ":  # a shape has no space outside brackets
        end = _closing(line, end) + 1 if line[end] in "([{" else end + 1
    opening = line.index("(", end)
    closing = _closing(line, opening)
    operands = tuple(re.findall(r"%([\w.\-]+)", line[opening:closing]))
    kind = line[end + 1 : opening]
    attributes = line[closing + 1 :]
    if kind in ("parameter", "constant"):
        attributes = line[opening + 1 : closing]
    return Operation(found.group(2), kind, arrays(line[start:end]), operands, attributes, bool(found.group(1)))


class Program:
    """A compiled program's text, taken apart."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, Computation] = {}
        self.entry = ""
        current: Computation = {}
        for line in text.splitlines():
            header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
            if header:
                current = self.computations[header.group(2)] = {}
                self.entry = header.group(2) if header.group(1) else self.entry
            elif (operation := _operation(line)) is not None:
                current[operation.name] = operation

    # --- how often -----------------------------------------------------------------------------------------------

    def kernels(self) -> Iterator[tuple[Operation, Computation, int]]:
        """Every operation that does something, where it stands, and how often it is done."""
        yield from self._kernels(self.entry, 1)

    def _kernels(self, name: str, times: int) -> Iterator[tuple[Operation, Computation, int]]:
        computation = self.computations[name]
        for operation in computation.values():
            if operation.kind == "while":
                trips = self.trips(operation)
                for part in ("body", "condition"):
                    yield from self._kernels(operation.called(part)[0], times * trips)
            elif operation.kind == "conditional":
                branches = operation.called("branch_computations")
                branches += operation.called("true_computation") + operation.called("false_computation")
                yield from self._kernels(max(branches, key=self.moved_by), times)
            elif operation.kind in CALLS:
                for callee in operation.called("to_apply") or operation.called("calls"):
                    yield from self._kernels(callee, times)
            elif operation.kind not in FREE:
                yield operation, computation, times

    def trips(self, loop: Operation) -> int:
        """How often a loop's body is run: as XLA found it, or the number that its condition compares with."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known.group(1))
        condition = self.computations[loop.called("condition")[0]]
        bounds = [int(o.attributes) for o in condition.values() if o.kind == "constant" and o.attributes.isdigit()]
        return max(bounds, default=1)

    # --- bytes ---------------------------------------------------------------------------------------------------

    def moved(self) -> int:
        """The bytes that all kernels read and write."""
        return self.moved_by(self.entry)

    @functools.cache  # noqa: B019  # a program lives as long as its cache
    def moved_by(self, computation: str) -> int:
        """The bytes that this computation's kernels read and write."""
        return sum(
            times * self.moved_once(operation, where) for operation, where, times in self._kernels(computation, 1)
        )

    def moved_once(self, operation: Operation, where: Computation) -> int:
        """The bytes that one kernel reads and writes."""
        given = [where[name] for name in operation.operands if name in where]
        if operation.kind == "fusion":
            return self._moved_by_fusion(operation, given)
        if operation.kind == "copy-start":
            return given[0].written + operation.results[0].bytes
        if operation.kind in TAKES_A_PART:
            return 2 * operation.written
        if operation.kind == "dynamic-update-slice":
            return 2 * given[1].written
        return sum(o.written for o in given) + operation.written

    def _moved_by_fusion(self, fusion: Operation, given: list[Operation]) -> int:
        inside = self.computations[fusion.called("calls")[0]]
        moved = 0
        for operation in inside.values():
            if operation.kind == "parameter":
                source = given[int(operation.attributes)]
                whole = source.elements
                moved += source.written * _needed(inside, operation) // whole if whole else 0
        root = next(o for o in inside.values() if o.is_root)
        roots = [inside[name] for name in root.operands] if root.kind == "tuple" else [root]
        for made, array in zip(roots, fusion.results, strict=False):
            updates = made.kind == "dynamic-update-slice"
            share = inside[made.operands[1]].elements / made.elements if updates else 1
            moved += int(array.bytes * share)
        return moved

    # --- what the devices send -----------------------------------------------------------------------------------

    def collectives(self) -> Counter[tuple[str, str]]:
        """How often each kind of collective is done, by kind and type of its numbers."""
        found: Counter[tuple[str, str]] = Counter()
        for operation, _, times in self.kernels():
            kind = operation.kind.removesuffix("-start")
            if kind in COLLECTIVES:
                found[kind, "+".join(sorted({array.dtype for array in operation.results}))] += times
        return found

    def largest(self, kind: str) -> int:
        """The most elements that one array has of those that operations of this kind give."""
        sizes = [a.elements for o, _, _ in self.kernels() if o.kind.removesuffix("-start") == kind for a in o.results]
        return max(sizes, default=0)


def _needed(inside: Computation, operation: Operation) -> int:
    """How many of its numbers a fused operation is asked for."""
    if operation.is_root:
        return operation.elements
    needed = 0
    for user in inside.values():
        if operation.name not in user.operands:
            continue
        first = user.operands[0] == operation.name
        if first and user.kind in TAKES_A_PART:
            needed += min(user.elements, _needed(inside, user))
        elif first and user.kind == "dynamic-update-slice":
            continue
        elif user.elements == operation.elements and user.kind not in ("fusion", "reduce", "tuple"):
            needed += _needed(inside, user)
        else:
            needed += operation.elements
    return min(needed, operation.elements)
