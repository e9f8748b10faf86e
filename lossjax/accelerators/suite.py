"""The suite: losses compiled for every chip, and how much of the logits each may move.

    make accelerators

A byte count is given in units of the logits, N·V numbers of their dtype: a value that reads its logits once moves 1,
with a gradient that reads them again and is written it moves 3.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lossjax
from lossjax.accelerators.chips import CHIPS, Chip
from lossjax.accelerators.program import compiled_for

Pass = Literal["value", "value and gradient"]
PASSES: tuple[Pass, ...] = ("value", "value and gradient")
DTYPES = ("float32", "bfloat16")
SHAPE = (8192, 65536)
"""Rows and classes: logits that no chip keeps in its caches."""
FOR_A_KERNEL = (4096, 32768)
"""Logits of 256 or 512 MiB: of larger ones lossjax keeps to the formula that needs no second array."""
ALLOWANCE = 0.1
"""Of the logits, for all that has one number a row, and for what a reduction's kernels hand on."""


class Case(NamedTuple):
    """A loss of logits: its second argument, how much its value and its gradient may move, and optax's."""

    loss: Callable[..., Any]
    second: Literal["labels", "distributions", "logits"] | None
    units: tuple[float, float]
    optax: Callable[..., Any] | None = None
    elsewhere: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """On chips whose compiler stores what another's does not, or that have no kernel, by their names."""
    shape: tuple[int, int] = SHAPE

    def allowed(self, chip: Chip, what: Pass) -> float:
        """How much the program of a chip may move, in units of the logits."""
        return self.elsewhere.get(chip.name, self.units)[PASSES.index(what)]


def _labelled(**options: Any) -> Callable[..., Any]:
    return lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, **options)


def optax_kl_divergence(u: Any, v: Any) -> Any:
    """Of softmax u from softmax v, as it is written with optax."""
    return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(v), jax.nn.log_softmax(u))


def optax_js_divergence(u: Any, v: Any) -> Any:
    """Of softmax u and softmax v, as it is written with optax."""
    log_p, log_q = jax.nn.log_softmax(u), jax.nn.log_softmax(v)
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2).astype(u.dtype)
    of = optax.losses.kl_divergence_with_log_targets
    return (of(log_m, log_p) + of(log_m, log_q)) / 2


_theirs = optax.losses.softmax_cross_entropy_with_integer_labels

GPUS = ("h100", "a100", "b200")

CASES: dict[str, Case] = {
    "labels": Case(_labelled(), "labels", (1, 3), _theirs),
    "labels, mean": Case(
        _labelled(reduction="mean"), "labels", (1, 2), _theirs, dict.fromkeys(GPUS, (1.0, 3.0)), FOR_A_KERNEL
    ),
    "labels, mean, smoothing and z-loss": Case(
        _labelled(reduction="mean", label_smoothing=0.1, z_loss=1e-4, ignore_index=-100),
        "labels",
        (1, 2),
        elsewhere=dict.fromkeys(GPUS, (1.0, 3.0)),
        shape=FOR_A_KERNEL,
    ),
    "labels, z-loss and ignored rows": Case(_labelled(z_loss=1e-4, ignore_index=-100), "labels", (1, 3)),
    "labels, temperature and mask": Case(
        lambda z, y: lossjax.softmax_cross_entropy_with_integer_labels(z, y, temperature=2.0, where=y != 3),
        "labels",
        (1, 3),
    ),
    "labels, smoothing": Case(
        _labelled(label_smoothing=0.1),
        "labels",
        (1, 3),
        lambda z, y: optax.losses.softmax_cross_entropy(
            z, optax.losses.smooth_labels(jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype), 0.1)
        ),
    ),
    "labels, softcap": Case(
        _labelled(logit_softcap=30.0),
        "labels",
        (1, 3),
        lambda z, y: _theirs((30.0 * jnp.tanh(z / 30.0)).astype(z.dtype), y),
    ),
    "log-sum-exp": Case(lossjax.logsumexp, None, (1, 3), lambda z: jax.nn.logsumexp(z, axis=-1)),
    "distributions": Case(lossjax.softmax_cross_entropy, "distributions", (2, 5), optax.losses.softmax_cross_entropy),
    "distributions, mean": Case(
        lambda z, t: lossjax.softmax_cross_entropy(z, t, reduction="mean"),
        "distributions",
        (2, 3),
        optax.losses.softmax_cross_entropy,
        dict.fromkeys(GPUS, (2.0, 5.0)),
        FOR_A_KERNEL,
    ),
    "distributions, smoothing": Case(
        lambda z, t: lossjax.softmax_cross_entropy(z, t, label_smoothing=0.1), "distributions", (2, 5)
    ),
    "binary labels": Case(
        lossjax.sigmoid_cross_entropy,
        "distributions",
        (2, 3),
        optax.losses.sigmoid_binary_cross_entropy,
    ),
    "KL of logits": Case(
        lossjax.softmax_kl_divergence,
        "logits",
        (2, 5),
        optax_kl_divergence,
        dict.fromkeys(GPUS, (4.0, 7.0)),
        FOR_A_KERNEL,
    ),
    "JS of logits": Case(
        lossjax.softmax_js_divergence,
        "logits",
        (2, 5),
        optax_js_divergence,
        dict.fromkeys(GPUS, (6.1, 11.1)),
        FOR_A_KERNEL,
    ),
}
"""By the name that tables show."""
EVERYWHERE = ("labels", "labels, mean", "log-sum-exp")
"""The cases that are compiled for every chip; libtpu takes some ten seconds for each of their programs."""
ON_EVERY_GPU = (*EVERYWHERE, "labels, smoothing", "labels, softcap", "distributions", "binary labels")
"""The compiler for GPUs takes two."""
CASES_OF: Mapping[str, Sequence[str]] = {
    "v5e": list(CASES),
    "h100": list(CASES),
    "a100": ON_EVERY_GPU,
    "b200": ON_EVERY_GPU,
}
"""Which cases are compiled for a chip, if not those of EVERYWHERE: all for one chip of each compiler."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One program of one contender on one chip."""

    chip: str
    case: str
    what: Pass
    dtype: str
    peer: str
    units: float
    temporary: int
    kernels: int
    milliseconds: float
    """The least time that moving the bytes takes on this chip."""

    @property
    def allowed(self) -> float | None:
        """How much the program may move; optax's has no limit. It is no part of what is recorded."""
        return CASES[self.case].allowed(CHIPS[self.chip], self.what) if self.peer == "lossjax" else None

    @property
    def ok(self) -> bool:
        """Whether the program moves what is allowed, and no more."""
        return self.allowed is None or self.units <= self.allowed + ALLOWANCE

    @property
    def complaint(self) -> str:
        """What is wrong where it is not ok."""
        return f"{self.chip}: {self.case}, {self.what}, {self.dtype} moves {self.units:.2f}, allowed {self.allowed}"


def program_of(loss: Callable[..., Any], what: Pass) -> Callable[..., Any]:
    """The mean loss, or that and its gradient in the logits."""

    def mean(*arguments: Any) -> Any:
        return jnp.mean(loss(*arguments).astype(jnp.float32))

    return mean if what == "value" else jax.value_and_grad(mean)


def arguments_of(case: Case, dtype: str, shape: tuple[int, int] | None = None) -> list[Any]:
    """The shapes of the arguments."""
    shape = case.shape if shape is None else shape
    logits = jax.ShapeDtypeStruct(shape, dtype)
    if case.second is None:
        return [logits]
    return [logits, jax.ShapeDtypeStruct(shape[:1], jnp.int32) if case.second == "labels" else logits]


def rows(chip: Chip, name: str, what: Pass, dtype: str, *, beside_optax: bool = True) -> list[Row]:
    """Compile one case for one chip, ours and optax's."""
    case = CASES[name]
    unit = float(np.prod(case.shape)) * jnp.dtype(dtype).itemsize
    found = []
    for peer, loss in (("lossjax", case.loss), ("optax", case.optax if beside_optax else None)):
        if loss is None:
            continue
        facts = compiled_for(chip, program_of(loss, what), *arguments_of(case, dtype))
        found.append(
            Row(
                chip.name, name, what, dtype, peer, round(facts.moved / unit, 3), facts.temporary,
                facts.kernels, round(facts.milliseconds(chip), 3),
            )
        )  # fmt: skip
    return found


def run(
    chips: Iterable[str] = CHIPS, cases: Sequence[str] = (), progress: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """These cases for all of these chips; without cases those that each chip is meant for."""
    found: list[Row] = []
    for chip in chips:
        for name in cases or CASES_OF.get(chip, EVERYWHERE):
            for dtype in DTYPES:
                for what in PASSES:
                    progress(f"{chip}: {name}, {what}, {dtype}")
                    found += rows(CHIPS[chip], name, what, dtype)
    return found


def markdown(found: Sequence[Row]) -> str:
    """One table for each chip: units of the logits, ours / optax's."""
    lines: list[str] = []
    for chip in dict.fromkeys(row.chip for row in found):
        lines += [f"### {chip}", "", "| loss | " + " | ".join(f"{w}, {d}" for d in DTYPES for w in PASSES) + " |"]
        lines.append("|---|" + "---:|" * (len(DTYPES) * len(PASSES)))
        for name in dict.fromkeys(row.case for row in found if row.chip == chip):
            cells = []
            for dtype in DTYPES:
                for what in PASSES:
                    here = [r for r in found if (r.chip, r.case, r.what, r.dtype) == (chip, name, what, dtype)]
                    cells.append(" / ".join(f"{row.units:.1f}" for row in here) or "")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()
