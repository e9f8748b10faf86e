"""Heads compiled for every chip: what a program holds beside the gradients of its weights, and what it moves.

    make accelerators

Without its logits a head holds, beside its arguments and results, the sum of its weight's gradient in float32 and some
blocks of logits. On stored logits it holds those, and their gradient. Value and gradients of the mean are compiled.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import lossjax
from lossjax.accelerators.chips import CHIPS, Chip
from lossjax.accelerators.head_plan import HeadPlan, plan_head
from lossjax.accelerators.program import compiled_for
from lossjax.accelerators.suite import DTYPES

SHAPE = (8192, 2048, 65536)
"""Rows, width of the hidden states, classes."""
TOKENS = 8
"""Classes that a sparse target names."""


class HeadCase(NamedTuple):
    """A loss of hidden states, and the same written by hand on stored logits."""

    loss: Callable[..., Any]
    stored: Callable[..., Any]
    heads: int = 1
    targets: tuple[tuple[int, ...], ...] = ((),)
    """Of each array beside hidden states and weights what follows the rows in its shape: the first has labels."""
    products: int = 6
    """In units of rows · width · classes, for each head."""
    blocks: float = 2.25
    """The most that it may hold beside the sums of its weights' gradients, in blocks of logits of each head."""


def _by_hand(x: Any, w: Any) -> Any:
    return jax.nn.log_softmax((x @ w).astype(jnp.float32))


def _kl_by_hand(x: Any, w: Any, y: Any, v: Any) -> Any:
    log_p, log_q = _by_hand(x, w), _by_hand(y, v)
    return jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))


def _js_by_hand(x: Any, w: Any, y: Any, v: Any) -> Any:
    log_p, log_q = _by_hand(x, w), _by_hand(y, v)
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
    halves = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
    return jnp.mean(jnp.sum(halves, axis=-1)) / 2


def _entropy_by_hand(x: Any, w: Any) -> Any:
    log_p = _by_hand(x, w)
    return -jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, axis=-1))


def _labels_by_hand(x: Any, w: Any, y: Any) -> Any:
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels((x @ w).astype(jnp.float32), y))


def _sparse_by_hand(x: Any, w: Any, classes: Any, probabilities: Any) -> Any:
    return -jnp.mean(jnp.sum(probabilities * jnp.take_along_axis(_by_hand(x, w), classes, axis=-1), axis=-1))


HEADS: dict[str, HeadCase] = {
    "cross-entropy": HeadCase(
        lambda x, w, y: lossjax.linear_softmax_cross_entropy(x, w, y, reduction="mean"), _labels_by_hand
    ),
    "cross-entropy of each row": HeadCase(
        lambda x, w, y: jnp.mean(lossjax.linear_softmax_cross_entropy(x, w, y)), _labels_by_hand, products=8
    ),
    "log-probabilities": HeadCase(
        lambda x, w, y: -jnp.mean(lossjax.linear_token_log_probs(x, w, y)), _labels_by_hand, products=8
    ),
    "entropy": HeadCase(
        lambda x, w: lossjax.linear_softmax_entropy(x, w, reduction="mean"), _entropy_by_hand, targets=()
    ),
    "sparse targets": HeadCase(
        lambda x, w, y, p: lossjax.linear_softmax_cross_entropy_with_sparse_targets(x, w, y, p, reduction="mean"),
        _sparse_by_hand, targets=((TOKENS,), (TOKENS,)),
    ),
    "KL of two heads": HeadCase(
        lambda x, w, y, v: lossjax.linear_softmax_kl_divergence(x, w, y, v, reduction="mean"),
        _kl_by_hand, heads=2, targets=(), blocks=2.3,
    ),
    "JS of two heads": HeadCase(
        lambda x, w, y, v: lossjax.linear_softmax_js_divergence(x, w, y, v, reduction="mean"),
        _js_by_hand, heads=2, targets=(), blocks=3.6,
    ),
}  # fmt: skip
"""By the name that tables show."""
EVERYWHERE = ("cross-entropy",)
"""The heads that are compiled for every chip and dtype; all of them are for one chip of each compiler, in bfloat16."""


@dataclasses.dataclass(frozen=True)
class HeadRow:
    """One program of one contender on one chip."""

    chip: str
    case: str
    dtype: str
    peer: str
    temporary: int
    moved: int
    kernels: int

    @property
    def plan(self) -> HeadPlan:
        """On paper: the blocks of rows, and the least times."""
        return plan_head(*SHAPE, chip=self.chip, dtype=self.dtype)

    @property
    def blocks(self) -> float:
        """What is held beside the sums of the weights' gradients, in blocks of logits of each head."""
        heads = HEADS[self.case].heads
        return (self.temporary / heads - self.plan.slope_bytes) / self.plan.logits_bytes

    @property
    def milliseconds(self) -> float:
        """The least time: that of the products at the chip's peak, or that of the bytes at its bandwidth."""
        case, chip = HEADS[self.case], CHIPS[self.chip]
        units = case.products if self.peer == "lossjax" else 6
        products = units * case.heads * SHAPE[0] * SHAPE[1] * SHAPE[2] / chip.flops
        return 1e3 * max(products, self.moved / chip.bandwidth)

    @property
    def ok(self) -> bool:
        """Whether lossjax's program holds what is allowed, and no more."""
        return self.peer != "lossjax" or self.blocks <= HEADS[self.case].blocks

    @property
    def complaint(self) -> str:
        """What is wrong where it is not ok."""
        allowed = HEADS[self.case].blocks
        return f"{self.chip}: {self.case}, {self.dtype} holds {self.blocks:.2f} blocks beside ∂W, allowed {allowed}"


def arguments_of(case: HeadCase, dtype: str) -> list[Any]:
    """The shapes of hidden states and weight of each head, and of what else the loss takes."""
    rows, width, classes = SHAPE
    of_heads = [jax.ShapeDtypeStruct(side, dtype) for side in ((rows, width), (width, classes))] * case.heads
    of_targets = [
        jax.ShapeDtypeStruct((rows, *shape), jnp.float32 if n else jnp.int32) for n, shape in enumerate(case.targets)
    ]
    return of_heads + of_targets


def rows(chip: Chip, name: str, dtype: str, *, beside_stored: bool = True) -> list[HeadRow]:
    """Compile one head for one chip, ours and the one with stored logits."""
    case = HEADS[name]
    found = []
    for peer, loss in (("lossjax", case.loss), ("stored", case.stored)):
        if peer == "lossjax" or beside_stored:
            program = jax.value_and_grad(loss, tuple(range(2 * case.heads)))
            facts = compiled_for(chip, program, *arguments_of(case, dtype))
            found.append(HeadRow(chip.name, name, dtype, peer, facts.temporary, facts.moved, facts.kernels))
    return found


def run(chip: str, cases: Sequence[str] = (), progress: Callable[[str], None] = lambda _: None) -> list[HeadRow]:
    """These heads for a chip; without cases those that the chip is meant for."""
    found: list[HeadRow] = []
    for name in cases or HEADS:
        for dtype in DTYPES:
            if cases or name in EVERYWHERE or (chip in ("v5e", "h100") and dtype == "bfloat16"):
                progress(f"{chip}: head, {name}, {dtype}")
                found += rows(CHIPS[chip], name, dtype)
    return found


def markdown(found: Sequence[HeadRow]) -> str:
    """One table: memory, and the least time, ours / on stored logits."""
    lines = [
        "| chip | head | dtype | rows of a block | temporary, MiB | beside ∂W, in blocks | least time, ms |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for ours in (row for row in found if row.peer == "lossjax"):
        same = [row for row in found if (row.chip, row.case, row.dtype) == (ours.chip, ours.case, ours.dtype)]
        memory = " / ".join(f"{row.temporary / 2**20:,.0f}" for row in same)
        times = " / ".join(f"{row.milliseconds:.1f}" for row in same)
        cells = (ours.chip, ours.case, ours.dtype, ours.plan.chunk_size, memory, f"{ours.blocks:.2f}", times)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
