"""The edge matrix: what every loss and its gradients are at infinities, NaN, ties, zeros, and parameters' ends.

Numbers come from the mathematics: limits where they exist, NaN where they do not. A loss that has no lines here still
has those that follow from its signature: NaN in any argument, masks, and a mean over nothing.
"""

import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossjax.verify.samples import loss_of
from lossjax.verify.signatures import SIGNATURES
from tests.support.limits import (
    INF,
    LOG2,
    LOGITS,
    NAN,
    NO,
    ROOT,
    H,
    Row,
    brier,
    cross_entropy,
    divergences,
    dot,
    first,
    fisher,
    flat,
    focal,
    hessian,
    limit,
    margins,
    of_labels,
    of_logits,
    of_targets,
    probabilities,
    ramp,
    regression,
    surprise,
)  # fmt: skip


class Lines(NamedTuple):
    """The edges of one loss with one set of options."""

    name: str
    rows: list[Row]
    options: dict[str, Any] | None = None
    names: tuple[str, ...] = ()
    """The arguments that are passed by name, the last ones."""
    units: float = 16
    absolute: float = 0
    """What is allowed in u beside units·u of the number itself, where terms are subtracted."""


LOGPI, C1, G1, E50 = math.log(math.pi), 0.5 - LOG2, 1.489384e18, math.exp(-50)  # G1 = 1e-60 e^180
MATRIX = (
    Lines("softmax_cross_entropy_with_integer_labels", surprise(lambda h, p: (h, 1)), units=8),
    Lines("softmax_cross_entropy", of_targets(cross_entropy), units=33, absolute=64),
    Lines("softmax_focal_loss", focal(2.0), units=32), Lines("softmax_focal_loss", focal(0.0), {"gamma": 0.0}),
    Lines("poly_cross_entropy", surprise(lambda h, p: (h - 2 * math.expm1(-h), 1 + 2 * p))),
    Lines("poly_cross_entropy", surprise(lambda h, p: (h + math.expm1(-h), -math.expm1(-h))), {"epsilon": -1.0}),
    Lines("generalized_cross_entropy", surprise(lambda h, p: (-math.expm1(-0.7 * h) / 0.7, p**0.7)), units=24),
    Lines("generalized_cross_entropy", surprise(lambda h, p: (-math.expm1(-h), p)), {"q": 1.0}, units=24),
    Lines("softmax_brier_score", of_labels(lambda h, p, c: brier(h, p, c)[:2]), units=24),
    Lines("softmax_brier_score", of_targets(brier), {"axis": 1}, units=24, absolute=64),
    Lines("softmax", of_logits(lambda h, p: (p, fisher(p, ramp(p)))), absolute=48),
    Lines("log_softmax", of_logits(lambda h, p: (-h, ramp(p) - ramp(p).sum() * p)), absolute=96),
    Lines("logsumexp", [((z,), -INF, ([0] * len(z),)) if max(z) == -INF else ((z,), max(z) + min(limit(z)[0]),
        NO if np.isnan(limit(z)[1][0]) else (limit(z)[1],)) for z, _ in LOGITS]),
    Lines("logsumexp", [
        (([-INF, -INF], [1, 2]), -INF, ([0, 0], [0, 0])), (([1, 2], [0, 0]), -INF, ([0, 0], [INF, INF])),
        (([1, INF], [1, 1]), INF, ([0, 1], [0, 1])), (([1, INF], [1, 0]), 1, ([1, 0], [1, INF])),
        (([200, 0], [0, 1]), 0, ([0, 1], [INF, 1])), (([0, -INF], [1, -2]), 0, ([1, 0], [1, 0])),
        (([1, 1], [1, -1]), -INF, ([INF, -INF], [INF, INF])), (([2, 1], [2, -1]), 2 + math.log(2 - 1 / math.e),
         ([2 / (2 - 1 / math.e), -1 / (2 * math.e - 1)], [1 / (2 - 1 / math.e), 1 / (2 * math.e - 1)])),
        (([0, 0], [3e38, 3e38]), math.log(6e38), ([0.5, 0.5], [0, 0])),
        (([-H, -H], [1, 3]), -H, ([0.25, 0.75], [0.25, 0.25])),
        (([120, -100], [2e-38, 3e38]), 120 + math.log(2e-38), ([1, 0], [5e37, 0])),
        *[((z, b), NAN, NO) for z, b in (
            ([1, 2], [-1, -1]), ([INF, INF], [1, 1]), ([NAN, 1], [0, 1]), ([0, 1], [1, NAN]),
        )],
    ], names=("b",), absolute=16),
    Lines("softmax_entropy", of_logits(lambda h, p: (dot(p, h), fisher(p, h))), units=33, absolute=16),
    Lines("softmax_cross_entropy_hvp", hessian(of_labels(lambda h, p, c: (fisher(p, ramp(p)),) * 2)), absolute=48),
    Lines("accuracy", [first(*row) for row in LOGITS], {"reduction": "none"}),
    *[Lines(name, rows) for name, rows in margins().items()],
    *[Lines(name, rows, units=33, absolute=33) for name, rows in divergences().items()],
    Lines("sigmoid_cross_entropy", flat(
        (INF, 1, 0, 0, -INF), (INF, 0, INF, 1, -INF), (-INF, 0, 0, 0, INF), (-INF, 1, INF, -1, INF), (H, 0, H, 1, -H),
        (INF, 0.5, INF, 0.5, -INF), (H, 1, 0, 0, -H), (0, 0.5, LOG2, 0, 0), (NAN, 0, NAN), (NAN, 1, NAN),
        (-50, 0, E50, E50, 50), (50, 1, E50, -E50, -50), arguments=2)),
    Lines("sigmoid_cross_entropy", flat(
        (-INF, 1, 0, 0, 0, 0, INF), (5, 1, 0, 0, 0, -math.log1p(math.exp(5)), math.log1p(math.exp(-5))),
        (INF, 0, 0, INF, 1, -INF, 0), (INF, 1, 2, 0, 0, -INF, 0), (0, 0, INF, LOG2, 0.5, INF, 0),
        (0, 1, INF, INF, -INF, INF, LOG2), (NAN, 0, 0, NAN), arguments=3), names=("pos_weight",)),
    Lines("sigmoid_focal_loss", flat(
        (INF, 1, 2, 0, 0, 0, 0), (-INF, 0, 2, 0, 0, 0, 0), (INF, 0, 2, INF, 1, -INF, 0), (-INF, 1, 2, INF, -1, INF, 0),
        (-H, 0, 2, 0, 0, 0, 0), (H, 0, 2, H, 1, -INF, 0), (INF, 1, 0, 0, 0, -INF, 0), (-INF, 1, 0, INF, -1, INF, 0),
        (0, 1, 0, LOG2, -0.5, 0, -LOG2 * LOG2), (NAN, 0, 2, NAN), (NAN, 1, 2, NAN), (0, NAN, 2, NAN), arguments=3),
        names=("gamma",)),
    Lines("squared_error", regression(
        (0, -0.0, 0, 0, 0), (INF, 0, INF, INF, -INF), (-INF, 0, INF, -INF, INF), (INF, -INF, INF, INF, -INF),
        (H, -H, INF, INF, -INF), (1e30, 0, INF, 2e30, -2e30), arguments=2)),
    Lines("huber_loss", regression(
        (0, 0, 1, 0, 0, 0, 0), (INF, 0, 1, INF, 1, -1, INF), (-INF, 0, 1, INF, -1, 1, INF), (H, -H, 1, INF, 1, -1, INF),
        (1, 0, 1, 0.5, 1, -1, 0), (3, 0, 1e-30, 3e-30, 1e-30, -1e-30, 3), (3, 0, H, 4.5, 3, -3, 0),
        (3, 0, INF, 4.5, 3, -3, 0), (2.5e19, 0, 2e19, 3e38, 2e19, -2e19, 5e18), arguments=3), names=("delta",)),
    Lines("smooth_l1_loss", regression(
        (0, 0, 1, 0, 0, 0, 0), (INF, 0, 1, INF, 1, -1, -0.5), (-INF, 0, 1, INF, -1, 1, -0.5),
        (H, -H, 1, INF, 1, -1, -0.5), (1, 0, 2, 0.25, 0.5, -0.5, -0.125), (3, 0, 1e-30, 3, 1, -1, -0.5),
        (3, 0, 0, 3, 1, -1, -0.5), (-3, 0, 0, 3, -1, 1, -0.5), (0, 0, 0, 0, 0, 0, 0), (3, 0, INF, 0, 0, 0, 0),
        (1e30, 0, 2e30, 2.5e29, 0.5, -0.5, -0.125), arguments=3), names=("beta",)),
    Lines("pseudo_huber_loss", regression(
        (0, 0, 1, 0, 0, 0, 0), (INF, 0, 1, INF, 1, -1, INF), (-INF, 0, 1, INF, -1, 1, INF),
        (3, 0, 4, 4, 2.4, -2.4, 0.2), (3, 0, 1e-30, 3e-30, 1e-30, -1e-30, 3), (3, 0, H, 4.5, 3, -3, 0),
        (3, 0, INF, 4.5, 3, -3, 0), (1e-4, 0, 1, 5e-9, 1e-4, -1e-4, 0.25e-16),
        (H, -H, 1e-8, 2e-8 * H, 1e-8, -1e-8, INF), arguments=3), names=("delta",)),
    Lines("log_cosh", regression(
        (0, 0, 0, 0, 0), (INF, 0, INF, 1, -1), (-INF, 0, INF, -1, 1), (H, -H, INF, 1, -1), (H, 0, H, 1, -1),
        (1e-30, 0, 0, 1e-30, -1e-30), arguments=2)),
    Lines("quantile_loss", regression(
        (0, 0, 0.5, 0, 0, 0, 0), (INF, 0, 0.5, INF, 0.5, -0.5, -INF), (-INF, 0, 0.5, INF, -0.5, 0.5, INF),
        (2, 0, 1, 0, 0, 0, -2), (2, 0, 0, 2, 1, -1, -2), (-2, 0, 1, 2, -1, 1, 2), (-2, 0, 0, 0, 0, 0, 2),
        (INF, 0, 1, 0, 0, 0, -INF), (-INF, 0, 0, 0, 0, 0, INF), (H, -H, 0.5, H, 0.5, -0.5, -INF), arguments=3),
        names=("level",)),
    Lines("gaussian_nll", regression(
        (0, 0, 0, ROOT, 0, 0, 0.5), (INF, 0, 0, INF, INF, -INF, -INF), (H, -H, 0, INF, INF, -INF, -INF),
        (0, 0, -1e4, ROOT - 5e3, 0, 0, 0.5), (1, 0, 1e4, ROOT + 5e3, 0, 0, 0.5), (0, 0, -INF, -INF, 0, 0, 0.5),
        (1, 0, INF, INF, 0, 0, 0.5), (1, 0, -INF, INF, INF, -INF, -INF), (1e-30, 0, -180, G1 / 2, INF, -INF, -G1 / 2),
        (1e38, 0, 180, ROOT + 90 + 5e15 / G1, 0, 0, 0.5 - 5e15 / G1),
        *[(H, -H, s, ROOT + s / 2 + z * z / 2, 0, 0, 0.5 - z * z / 2)
          for s in (176.0,) for z in (2 * H * math.exp(-s / 2),)],
        arguments=3), names=("log_variance",), units=64),
    Lines("laplace_nll", regression(
        (0, 0, 0, LOG2, 0, 0, 1), (INF, 0, 0, INF, 1, -1, -INF), (-INF, 0, 0, INF, -1, 1, -INF),
        (H, -H, 0, INF, 1, -1, -INF), (0, 0, -1e4, LOG2 - 1e4, 0, 0, 1), (1, 0, 1e4, LOG2 + 1e4, 0, 0, 1),
        (0, 0, -INF, -INF, 0, 0, 1), (1, 0, INF, INF, 0, 0, 1), (1, 0, -INF, INF, INF, -INF, -INF),
        (1e-30, 0, -90, G1**0.5, INF, -INF, -(G1**0.5)),
        (1e38, 0, 90, LOG2 + 90 + 1e8 / G1**0.5, 0, 0, 1 - 1e8 / G1**0.5),
        *[(H, -H, s, LOG2 + s + z, math.exp(-s), -math.exp(-s), 1 - z)
          for s in (80.0,) for z in (2 * H * math.exp(-s),)],
        arguments=3), names=("log_scale",), units=64),
    Lines("student_t_nll", flat(
        (0, 0, 1, 0, LOGPI, 0, 0, C1, 1), (INF, 0, 1, 0, INF, 0, 0, INF, -1), (-INF, 0, 1, 0, INF, 0, 0, INF, -1),
        (1, 0, 1, -200, LOGPI + 200, 2, -2, 199 + C1, -1), (1, 0, 1, 200, LOGPI + 200, 0, 0, C1, 1),
        (H, -H, 1, 0, LOGPI + 2 * math.log(2 * H), 0, 0, math.log(2 * H) - 1 + C1, -1),
        (0, 0, 1, INF, INF, 0, 0, C1, 1),
        (1, 0, 1, -INF, INF, 2, -2, INF, -1), (NAN, 0, 1, 0, NAN), (INF, INF, 1, 0, NAN),
        (2, 0, INF, 0, ROOT + 2, 2, -2, 0, -3), (0, 0, INF, 1, ROOT + 1, 0, 0, 0, 1),
        (INF, 0, INF, 0, INF, INF, -INF, 0, -INF), arguments=4), names=("degrees_of_freedom", "log_scale")),
    Lines("poisson_nll", flat(
        (0, 0, 1, 1, 0), (-INF, 0, 0, 0, INF), (-INF, 1, INF, -1, INF), (INF, 0, INF, INF, -INF), (H, 2, INF, INF, -H),
        (INF, 1, INF, INF, -INF), (-H, 2, INF, -2, H), (NAN, 0, NAN), (0, -1, NAN), arguments=2)),
    Lines("poisson_nll", flat((0, 3, 1 + math.log(6), -2, 11 / 6 - np.euler_gamma), (0, -1, NAN), (NAN, 0, NAN),
        (-20, 0, math.exp(-20), math.exp(-20), 20 - np.euler_gamma),
        (-20, 1, 20, -1, 21 - np.euler_gamma), arguments=2), {"full": True}, units=64),
    Lines("poisson_nll", flat(
        (1, 0, 1, 1, 0), (2, 2, 2 - 2 * LOG2, 0, -LOG2), (0, 0, 0, 1, INF), (0, 1, INF, -INF, INF),
        (INF, 1, INF, 1, -INF), (INF, 0, INF, 1, -INF), (1e30, 1, 1e30, 1, -30 * math.log(10)), (-1, 0, NAN),
        (1, -1, NAN), (NAN, 0, NAN), (0, NAN, NAN), arguments=2), {"log_input": False}),
    Lines("hinge_loss", flat((INF, 1, 0, 0, 0), (-INF, 1, INF, -1, INF), (1, 1, 0, 0, 0), (0, 1, 1, -1, 0),
        (H, -1, H, 1, -H), (NAN, 1, NAN), arguments=2)),
    Lines("perceptron_loss", flat((INF, 1, 0, 0, 0), (-INF, 1, INF, -1, INF), (0, 1, 0, 0, 0), (-0.0, -1, 0, 0, 0),
        (H, -1, H, 1, -H), (NAN, 1, NAN), arguments=2)),
    Lines("sparsemax_loss", flat((INF, 1, 0, 0), (-INF, 1, INF, -1), (INF, 0, INF, 1), (1, 1, 0, 0), (-1, 1, 1, -1),
        (0, 1, 0.25, -0.5), (-H, 1, H, -1), (NAN, 1, NAN), (1, 2, NAN), (1, -1, NAN), arguments=2)),
    Lines("self_information", flat((0, INF, -INF), (-0.0, INF, -INF), (1, 0, -1), (0.5, LOG2, -2), (NAN, NAN),
        (1.5, NAN), (-0.5, NAN), (INF, NAN), arguments=1)),
    Lines("entropy", [
        (([0.5, 0.5],), LOG2, ([LOG2 - 1] * 2,)), (([1, 0],), 0, ([-1, INF],)), (([-0.0, 1],), 0, ([INF, -1],)),
        (([1],), 0, ([-1],)), *[((p,), NAN, NO) for p in ([NAN, 0.5], [-0.5, 1], [1.5, 0], [NAN])]]),
    Lines("cross_entropy", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), LOG2, ([LOG2, LOG2, INF], [-1, -1, 0])), (([1, 0], [1, 0]),
        0, ([0, INF], [-1, 0])),
        (([1, 0], [0, 1]), INF, ([INF, 0], [-INF, 0])), (([0, 1], [0.5, 0.5]), LOG2, ([LOG2, LOG2], [0, -2])),
        (([0, 1], [0, 1]), 0, ([INF, 0], [0, -1])),
        (([0.5, 0.5], [0, 1]), INF, ([INF, 0], [-INF, -0.5])), slack=False), units=32),
    Lines("kl_divergence", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), 0, ([0, 0, 0], [0, 0, 1])), (([1, 0], [0, 1]), INF, ([INF, -INF], [-INF, 1])),
        (([0, 1], [0.5, 0.5]), LOG2, ([-INF, LOG2], [1, -1])), (([0, 1], [0, 1]), 0, ([0, 0], [1, 0])),
        (([0.5, 0.5], [0, 1]), INF, ([INF, -LOG2], [-INF, 0.5]))), units=33),
    Lines("jeffreys_divergence", probabilities(
        (([0.5, 0.5], [0.5, 0.5]), 0, ([0, 0], [0, 0])), (([1, 0], [0, 1]), INF, ([INF, -INF], [-INF, INF])),
        (([0, 1], [0.5, 0.5]), INF, ([-INF, LOG2 + 0.5], [INF, -1 - LOG2]))), units=33),
    Lines("js_divergence", probabilities(
        (([0.5, 0.5, 0], [0.5, 0.5, 0]), 0, ([0, 0, 0], [0, 0, 0])),
        (([1, 0], [0, 1]), LOG2, ([LOG2 / 2, -INF], [-INF, LOG2 / 2])), (([0, 1], [0, 1]), 0, ([0, 0], [0, 0])),
        (([0, 1], [0.5, 0.5]), 0.75 * math.log(4 / 3),
         ([-INF, math.log(4 / 3) / 2], [LOG2 / 2, math.log(2 / 3) / 2]))), units=33),
    *[Lines(name, [
        (([0, 0], [1, 2]), one, ([0, 0], [0, 0])), (([0, 0], [0, -0.0]), one, ([0, 0], [0, 0])),
        (([3, 4], [3, 4]), 1 - one, ([0, 0], [0, 0])), (([1, 0], [0, 1]), one, ([0, sign], [sign, 0])),
        (([H, 0], [1, 0]), 1 - one, ([0, 0], [0, 0])), (([H, H], [H, -H]), one, ([0, 0], [0, 0])),
        (([3, 0], [-2, 0]), 3 * one - 1, ([0, 0], [0, 0])), (([NAN, 1], [1, 0]), NAN, NO), (([1, 0], [0, NAN]),
        NAN, NO),
    ], absolute=8) for name, one, sign in (("cosine_similarity", 0, 1), ("cosine_distance", 1, -1))],
)  # fmt: skip


def call(line: Lines, *args: jax.Array, **more: Any) -> jax.Array:
    """The loss with the line's options."""
    split = len(args) - len(line.names)
    named = dict(zip(line.names, args[split:], strict=True))
    return loss_of(line.name)(*args[:split], **{**(line.options or {}), **named, **more})


def pulled(line: Lines, args: tuple[jax.Array, ...], **more: Any) -> tuple[jax.Array, ...]:
    """The value, and its gradients; the classes of a row output have the cotangents 1, 2, 3 …"""
    first = 2 if line.name == "softmax_cross_entropy_hvp" else 0
    moving = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating) and i >= first]

    def of(*floats: jax.Array) -> jax.Array:
        given = dict(zip(moving, floats, strict=True))
        return call(line, *[given.get(i, a) for i, a in enumerate(args)], **more)

    value, pullback = jax.vjp(of, *[args[i] for i in moving])
    cotangent = jnp.arange(1, value.shape[-1] + 1) if value.ndim > 1 else jnp.ones(())
    return value, *pullback(jnp.broadcast_to(cotangent, value.shape).astype(value.dtype))


def groups(line: Lines, dtype: Any = np.float32) -> list[tuple[list[Row], tuple[jax.Array, ...]]]:
    """Rows of one width, and their arguments as a batch."""
    result = []
    binary = line.name in SIGNATURES and "binary labels" in SIGNATURES[line.name].kinds
    for width in sorted({np.shape(args[0]) for args, _, _ in line.rows}, reverse=True):
        rows = [row for row in line.rows if np.shape(row[0][0]) == width]
        columns = [np.array(column) for column in zip(*[row[0] for row in rows], strict=True)]
        labels = binary or (len(columns) > 1 and columns[1].ndim < columns[0].ndim)
        dtypes = [np.int32 if labels and i == 1 else dtype for i in range(len(columns))]
        result.append((rows, tuple(jnp.asarray(c, d) for c, d in zip(columns, dtypes, strict=True))))
    return result


def right(line: Lines, got: np.ndarray, want: Any) -> bool:
    """Whether the numbers are those of the line, to its units in the dtype of what was computed."""
    info = np.finfo(got.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        target = np.asarray(want, np.float64).astype(got.dtype)
        flushed = 128 * float(info.tiny)  # a probability XLA takes for 0, times its surprisal
        size = line.units * np.abs(target, dtype=np.float64) + line.absolute
        near = np.isfinite(target) & (np.abs(got - target, dtype=np.float64) <= float(info.eps) / 2 * size + flushed)
    return got.shape == target.shape and bool((near | (got == target) | (np.isnan(got) & np.isnan(target))).all())


def faults(line: Lines, rows: list[Row], results: list[np.ndarray]) -> list[str]:
    """What is not as the lines say, in words."""
    found: list[str] = []
    for i, (args, value, slopes) in enumerate(rows):
        got, *gradients = (r[i] for r in results)
        if not right(line, got, np.full(got.shape, NAN) if slopes is NO else value):
            found.append(f"{line.name}{args}, {line.options}: value {got}, want {value}")
        for k, slope in enumerate(gradients):
            if not (np.isnan(slope).any() if slopes is None else right(line, slope, slopes[k])):
                found.append(f"{line.name}{args}, {line.options}: gradient {k} {slope}, want {slopes and slopes[k]}")
    return found


def takes(name: str, option: str) -> bool:
    """Whether the loss has the option. A mask of what has no weights hides entries of a row, not rows."""
    parameters = inspect.signature(loss_of(name)).parameters
    return option in parameters and (option != "where" or "weights" in parameters)
