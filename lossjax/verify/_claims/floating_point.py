"""§4.1.6 in floating point: what shift, fusion and cancellation do to the loss and its gradient."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax._core.plain import plain_of
from lossjax.verify import oracle
from lossjax.verify._claims._tools import exact_softmax, gradient, optimised, wide
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls, in_roundoffs

loss = lossjax.softmax_cross_entropy_with_integer_labels


def _at(z: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.take_along_axis(z, labels[:, None], axis=-1)[:, 0]


def _shifted(z: jax.Array) -> jax.Array:
    return z - jnp.max(z, axis=-1, keepdims=True)


def _by_probability(z: jax.Array, labels: jax.Array) -> jax.Array:
    """-log p̂_c from a stored p̂, itself shifted by the maximum."""
    weights = jnp.exp(_shifted(z))
    return -jnp.log(_at(weights / jnp.sum(weights, axis=-1, keepdims=True), labels))


def _by_log_sum_exp(z: jax.Array, labels: jax.Array) -> jax.Array:
    """Equations (4.1.4) and (4.1.5) as they stand: lse(z) - z_c, with lse = M + log Σ exp(z - M)."""
    return jnp.max(z, axis=-1) + jnp.log(jnp.sum(jnp.exp(_shifted(z)), axis=-1)) - _at(z, labels)


def _by_log_softmax(z: jax.Array, labels: jax.Array) -> jax.Array:
    return -_at(jax.nn.log_softmax(z), labels)


def _printed(z: jax.Array, labels: jax.Array) -> jax.Array:
    """L = z_c - M - log Σ exp(z - M), the sign as printed below (4.1.5)."""
    return _at(z, labels) - jnp.max(z, axis=-1) - jnp.log(jnp.sum(jnp.exp(_shifted(z)), axis=-1))


def _values_and_gradients(*losses: Any) -> Any:
    return lambda z, labels: [(f(z, labels), gradient(f)(z, labels)) for f in losses]


def _labels(trial: Trial, rows: int, classes: int) -> jax.Array:
    return jnp.asarray(trial.random.integers(classes, size=rows))


@claim(
    "6.5",
    section="4.1.6",
    statement="Cross-entropy is defined on the space of probabilities and has good numerical properties there",
    verdict="wrong",
    correction="−log(softmax(z))_c is +inf with NaN gradient once p̂_c underflows; of logits, L and p̂ − e_c stay exact",
)
def probabilities_underflow(trial: Trial) -> None:
    """An unlikely label, a masked label, and the first gap at which the loss of probabilities is infinite."""
    gap = 200 if trial.dtype.itemsize == 4 else 800
    z = trial.array([[0, gap, 0], [1, 2, -np.inf]])
    labels = jnp.asarray([0, 2])
    (value, slope), (naive, naive_slope) = optimised(_values_and_gradients(loss, _by_probability), z, labels)
    trial.close("loss of logits", value[0], np.float64(gap), 8)
    trial.exactly("loss of an impossible label", value[1], np.inf)
    truth = np.array([[-1, 1, 0], [*exact_softmax([1.0, 2.0]), -1]])
    trial.close("gradient p̂ - e_c", slope, truth, 8)
    trial.happens("-log(softmax(z))_c is +inf", np.isposinf(naive[0]), refutes=True)
    trial.happens("its gradient is NaN", np.all(np.any(np.isnan(naive_slope), axis=-1)), refutes=True)

    gaps = np.arange(1, 1000.0)
    two = trial.array(np.stack([np.zeros_like(gaps), gaps], axis=-1))
    value, naive = optimised(lambda z, c: (loss(z, c), _by_probability(z, c)), two, jnp.zeros(len(gaps), int))
    trial.close("loss of logits at every gap", value, gaps + np.log1p(np.exp(-wide(gaps))), 8)
    first = gaps[np.argmax(np.isinf(naive))]
    # e^-gap leaves the normal numbers at -log tiny (87.3, 708.4), the subnormal ones at 104 and 746.
    lower, upper = (87, 104) if trial.dtype.itemsize == 4 else (708, 746)
    trial.happens(f"+inf from gap {first:g} on, where exp underflows", lower <= first <= upper, refutes=True)


@claim(
    "6.7",
    section="4.1.6",
    statement="Fusing softmax and cross-entropy avoids storing p̂ and fundamentally solves numerical overflow",
    verdict="imprecise",
    correction="The shift solves overflow, fusion log 0 and NaN gradients; L near 0 still cancels; backward needs p̂",
)
def fusion_and_shift(trial: Trial) -> None:
    """Each alone, both together, what both leave unsolved, and what is stored for the backward pass."""

    def fused_only(z: jax.Array, labels: jax.Array) -> jax.Array:
        return -(_at(z, labels) - jnp.log(jnp.sum(jnp.exp(z), axis=-1)))

    z, labels = trial.array([[1000, 0, 0], [0, 1000, 0], [50, 0, 0]]), jnp.zeros(3, int)
    losses = loss, fused_only, _by_probability, _by_log_sum_exp
    ours, fused, shifted, both = optimised(_values_and_gradients(*losses), z, labels)
    trial.happens("fused without shift: overflow", np.isinf(fused[0][0]) and np.isnan(fused[1][0, 0]), refutes=True)
    trial.happens("shifted without fusion: no overflow", shifted[0][0] == 0 and np.all(np.isfinite(shifted[1][0])))
    trial.happens("shifted without fusion: log 0", np.isinf(shifted[0][1]) and np.any(np.isnan(shifted[1][1])))
    trial.close("shifted and fused", both[0][1], np.float64(1000), 8)
    trial.close("shifted and fused, gradient", both[1][1], np.array([-1.0, 1, 0]), 8)
    trial.happens("both, and the loss at gap 50 is exactly 0", both[0][2] == 0, refutes=True)
    trial.close("the loss is log1p(2e^-50)", ours[0][2], np.log1p(2 * np.exp(wide(-50))), 8)

    truth = exact_softmax(z) - np.eye(3)[np.asarray(labels)]
    trial.close("the backward pass returns p̂ - e_c, so it computed p̂ again", ours[1][:2], truth[:2], 8)

    z, labels = trial.normal(6, 50), _labels(trial, 6, 50)

    def stored(f: Any) -> int:
        pullback = jax.eval_shape(lambda z: jax.vjp(lambda z: f(z, labels), z)[1], z)
        return sum(leaf.size >= z.size for leaf in jax.tree.leaves(pullback))

    trial.at_most("arrays of [batch, classes] kept: the logits alone", stored(loss), 1)
    trial.refuted("kept without fusion", stored(_by_probability), 2)


@claim("(4.1.4)", section="4.1.6", statement="L = −log p̂_c = −log(exp z_c / Σ exp z_j) = −(z_c − log Σ exp z_j)")
def loss_of_logits(trial: Trial) -> None:
    """The three forms agree to 200 bits, and the loss with them to a few u; so do their derivatives."""
    parts = [trial.normal(15, 7, scale=scale) for scale in (1e-3, 1, 10)]
    z, labels = trial.array(np.concatenate(parts)), _labels(trial, 45, 7)
    with oracle.precision():
        hot = oracle.one_hot(labels, 7)
        by_definition, exact_gradient = oracle.softmax_cross_entropy(balls(z), hot)
        second = -oracle.total(oracle.log(oracle.softmax(balls(z))) * hot)
        disagreement = max(float((a - b).abs_upper()) for a, b in zip(by_definition, second, strict=True))
        trial.at_most("the forms' difference in exact arithmetic", disagreement, 2.0**-200)
        forms = loss, plain_of(loss), _by_probability, _by_log_sum_exp
        names = "the loss", "its formula", "-log p̂_c", "-(z_c - log Σ exp z_j)"
        size = 1 + np.max(np.abs(wide(z)), axis=-1)
        for name, (value, slope) in zip(names, optimised(_values_and_gradients(*forms), z, labels), strict=True):
            scale, units = (None, 8) if name in names[:2] else (size, 16)
            trial.at_most(f"{name}, in u", np.max(in_roundoffs(value, by_definition, scale=scale)), units)
            scale, units = (None, 8) if name == names[0] else (1.0, 16)
            trial.at_most(f"{name}, derivative in u", np.max(in_roundoffs(slope, exact_gradient, scale=scale)), units)


@claim(
    "(4.1.5)",
    section="4.1.6",
    statement="log Σ exp z_j = M + log Σ exp(z_j − M), with M = max z",
    verdict="needs conditions",
    correction="For every finite M (the maximum keeps exp in range); an infinite maximum makes M − M, so all, NaN",
)
def log_sum_exp_shift(trial: Trial) -> None:
    """Any shift in range, offsets that only the maximum survives, and infinite logits."""

    def shifted(z: jax.Array, shift: jax.Array) -> jax.Array:
        return shift + jnp.log(jnp.sum(jnp.exp(z - shift[:, None]), axis=-1))

    z = trial.array(np.concatenate([trial.normal(15, 9, scale=3, offset=o) for o in (0, 1e4, -1e4)]))
    special = trial.array([[-np.inf] * 9, [np.inf] + [0] * 8, [-np.inf] * 8 + [3]])

    def measure(z: jax.Array, special: jax.Array) -> Any:
        top = jnp.max(z, axis=-1)
        by_shift = [shifted(z, shift) for shift in (top, top + 5, jnp.mean(z, axis=-1), jnp.zeros_like(top))]
        slope = gradient(lossjax.logsumexp)(z)
        return by_shift, lossjax.logsumexp(z), slope, shifted(special, jnp.max(special, -1)), lossjax.logsumexp(special)

    by_shift, ours, slope, naive, limits = optimised(measure, z, special)
    exact = wide(z).max(axis=-1)
    exact = exact + np.log(np.sum(np.exp(wide(z) - exact[:, None]), axis=-1))
    scale = np.maximum(1, np.abs(exact))
    for name, got in zip(("the maximum", "the maximum + 5", "the mean"), by_shift[:3], strict=True):
        trial.close(f"shift by {name}", got, exact, 16, scale=scale)
    trial.close("logsumexp", ours, exact, 16, scale=scale)
    trial.close("its gradient is p̂", slope, exact_softmax(z), 8)
    trial.close("no shift, near 0", by_shift[3][:15], exact[:15], 16, scale=scale[:15])
    trial.happens("no shift, far off: ±inf", np.all(np.isinf(by_shift[3][15:])))
    trial.happens("nothing but -inf: NaN", np.isnan(naive[0]), refutes=True)
    trial.happens("one +inf: NaN", np.isnan(naive[1]), refutes=True)
    trial.exactly("one +inf by logsumexp: its limit", limits[1], np.inf)
    trial.exactly("a single finite logit", limits[2], 3.0)


@claim(
    "6.10",
    section="4.1.6",
    statement="With the shift, L = z_c − M − log Σ exp(z_j − M)",
    verdict="wrong",
    correction="L = −z_c + M + log Σ exp(z_j − M); the printed value is −L = log p̂_c ≤ 0",
)
def sign_of_the_loss(trial: Trial) -> None:
    """The printed value is minus the loss, its gradient is e_c - p̂, and descending it makes the label impossible."""
    z, labels = trial.normal(40, 5, scale=4), _labels(trial, 40, 5)
    z = z.at[0].set(trial.array([0, 100, 0, 0, 0]))
    labels = labels.at[0].set(0)

    def measure(z: jax.Array, labels: jax.Array) -> Any:
        values = loss(z, labels), _by_log_sum_exp(z, labels), _printed(z, labels)
        slopes = gradient(loss)(z, labels), gradient(_printed)(z, labels)
        down = jax.lax.fori_loop(0, 60, lambda _, x: x - gradient(_printed)(x, labels), jnp.zeros_like(z))
        return values, slopes, down

    (value, corrected, printed), (slope, printed_slope), down = optimised(measure, z, labels)
    hot = np.eye(5)[np.asarray(labels)]
    exact = np.log(np.sum(np.exp(wide(z)), axis=-1))
    exact = exact - np.sum(wide(z) * hot, axis=-1)
    size = 1 + np.max(np.abs(wide(z)), axis=-1)
    trial.close("the loss", value, exact, 8, scale=exact + np.finfo(trial.dtype).tiny)
    trial.close("-z_c + M + log Σ exp(z - M)", corrected, exact, 16, scale=size)
    trial.close("printed + L = 0", printed, -wide(value), 64, scale=size)
    trial.happens("the printed value is never positive", np.all(printed <= 0), refutes=True)
    trial.close("printed for z = (0, 100, 0, 0, 0), c = 0", printed[0], np.float64(-100), 8)
    trial.close("gradient p̂ - e_c", slope, exact_softmax(z) - hot, 16, scale=1)
    trial.close("printed gradient e_c - p̂", printed_slope, hot - exact_softmax(z), 16, scale=1)
    reached = -np.log(np.sum(exact_softmax(down) * hot, axis=-1))
    trial.refuted("-log p̂_c after descending the printed value, from log 5", np.min(reached), 10)


@claim(
    "6.11",
    section="4.1.6",
    statement="Computed this way, no exp(z_i) is evaluated explicitly, which solves overflow from the root",
    verdict="imprecise",
    correction="C exponentials exp(z_j − M) are evaluated, of arguments ≤ 0: no overflow, and underflow does no harm",
)
def exponentials_are_evaluated(trial: Trial) -> None:
    """Exponentials in the compiled program; no overflow up to the largest numbers; shifts change no bit."""
    largest = float(jnp.finfo(trial.dtype).max)
    labels = jnp.asarray([1, 1, 1])
    extreme = trial.array([[0.9 * largest, -0.9 * largest], [0.9 * largest] * 2, [-0.9 * largest, 0.5 * largest]])
    grid = trial.array(np.round(trial.random.normal(size=(40, 7)) * 1024) / 256)
    grid_labels = _labels(trial, 40, 7)
    for name, f in (("printed with its sign corrected", _by_log_sum_exp), ("the loss", loss)):
        program = jax.jit(f).lower(grid, grid_labels).compile().as_text() or ""
        shapes = re.findall(r"= f\d+\[([\d,]+)\]\S* exponential\(", program)
        found = sum(math.prod(map(int, shape.split(","))) for shape in shapes)
        trial.refuted(f"exponentials in the program of rows of 7 logits, a row, {name}", found / 40, 7)
    trial.at_most("largest argument of an exponential", np.max(optimised(_shifted, grid)), 0)

    (value, slope), *_ = optimised(_values_and_gradients(loss), extreme, labels)
    trial.exactly("±max: a loss beyond the largest number is +inf", value[0], np.inf)
    trial.exactly("±max: gradient", slope[0], np.array([1.0, -1.0]))
    trial.close("max twice", value[1], np.log(np.float64(2)), 8)
    trial.exactly("underflow: loss and gradient are 0", np.append(slope[2], value[2]), np.zeros(3))
    shifts = trial.array([0, 8, -1024, 8192] if trial.dtype.itemsize == 4 else [0, 8, -1e4, 2.0**40])
    of_both = _values_and_gradients(loss)
    moved = optimised(lambda z, s: jax.vmap(lambda a: of_both(z + a, grid_labels)[0])(s), grid, shifts)
    for name, got in zip(("loss", "gradient"), moved, strict=True):
        trial.exactly(f"{name} under shifts without rounding, bit by bit", got, np.broadcast_to(got[0], got.shape))


@claim(
    "Part 4",
    section="4.1.6",
    statement="Computed through LogSumExp, loss and gradient are numerically stable",
    verdict="imprecise",
    correction="lse − z_c, log_softmax lose every digit as L → 0; z_m − z_c + log1p Σ_{j≠m} exp(z_j − z_m) keeps 8u",
)
def relative_precision(trial: Trial) -> None:
    """Against 256 bits: every scale, offset and gap; where the others reach exactly 0; the figures of two examples."""
    losses = loss, _by_log_softmax, _by_log_sum_exp
    families = [trial.normal(12, 10, scale=s, offset=o) for s, o in ((1e-3, 0), (1, 0), (10, 0), (60, 0), (1, 1e4))]
    fuzz = np.concatenate([np.asarray(family) for family in families] * 2)
    gaps = np.arange(0.25, -np.log(trial.tiny), 0.25)
    offset = 1e4 * 2.0**-24 / trial.u  # where the spacing of numbers is 2^-10 in either precision
    # All in one batch; a class of logit -inf is no class.
    z = np.full((120 + len(gaps) + 2, 10), -np.inf)
    z[:120], z[120:-2, 0], z[120:-2, 1], z[-2, :3], z[-1, :2] = fuzz, gaps, 0, (50, 0, 0), (offset, offset - 5)
    labels = np.zeros(len(z), int)
    labels[:120] = np.where(np.arange(120) < 60, trial.random.integers(10, size=120), np.argmax(fuzz, axis=-1))
    results = optimised(_values_and_gradients(*losses), trial.array(z), jnp.asarray(labels))
    first, pairs, peak, far = ([(value[k], slope[k]) for value, slope in results] for k in
                               (slice(120), slice(120, -2), slice(-2, -1), slice(-1, None)))  # fmt: skip

    with oracle.precision():
        exact = oracle.softmax_cross_entropy(balls(fuzz), oracle.one_hot(labels[:120], 10))
        for name, of in zip(("ours", "log_softmax", "lse - z_c"), first, strict=True):
            for what, got, truth in zip(("loss", "gradient"), of, exact, strict=True):
                off = np.max(in_roundoffs(got, truth, negligible=10 * trial.tiny))
                if name == "ours":
                    trial.at_most(f"our {what}, in u", off, 8)
                else:
                    trial.refuted(f"{what} by {name}, in u", off, 1 / (2 * trial.u))

    # Two classes. log(1 + S) rounds to 0 once S = e^-gap ≤ u, that is from -log u = 16.64 or 36.74 on.
    ours, others, _ = pairs
    zero = gaps[np.argmax(others[0] == 0)]
    trial.at_most("first gap at which log_softmax's loss is 0, less -log u", abs(zero + np.log(trial.u)), 0.25)
    trial.happens("from there on log_softmax's loss is 0", np.all(others[0][gaps >= zero] == 0), refutes=True)
    trial.close("our loss at every gap", ours[0], np.log1p(np.exp(-wide(gaps))), 8)
    trial.close("our gradient at every gap", ours[1][:, 0], -1 / (1 + np.exp(wide(gaps))), 8)

    ours, others, _ = peak
    tail = np.exp(wide(-50))
    trial.close("z = (50, 0, 0): our loss", ours[0], np.log1p(2 * tail)[None], 8)
    trial.close("z = (50, 0, 0): our gradient", ours[1][:, :3], np.array([[-2, 1, 1]]) * tail / (1 + 2 * tail), 8)
    trial.happens("z = (50, 0, 0): log_softmax's loss is 0", others[0][0] == 0, refutes=True)
    trial.close("z = (50, 0, 0): its gradient off the label", others[1][:, 1:3], np.full((1, 2), tail), 8)
    trial.refuted("z = (50, 0, 0): its |Σg|/‖g‖₁", abs(others[1].sum()) / np.abs(others[1]).sum(), 1)

    ours, others, direct = far
    truth = np.log1p(np.exp(wide(-5)))
    trial.close("z = (offset, offset - 5): our loss", ours[0], truth[None], 8)
    # log_softmax: an ulp of 1 + S, relative to S
    trial.close("z = (offset, offset - 5): log_softmax", others[0], truth[None], 8 / float(truth))
    trial.refuted("z = (offset, offset - 5): lse - z_c, relative error", abs(direct[0][0] - truth) / truth, 0.01)


CLAIMS: tuple[Claim, ...] = (
    probabilities_underflow,
    fusion_and_shift,
    loss_of_logits,
    log_sum_exp_shift,
    sign_of_the_loss,
    exponentials_are_evaluated,
    relative_precision,
)
