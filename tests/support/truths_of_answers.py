"""What the losses of a policy and of preferences are, in ball arithmetic; as in ``tests/support/truths.py``."""

from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls
from tests.support.truths import Truth, truth_of
from tests.support.truths_of_scores import TRUTHS

__all__ = ("TRUTHS",)  # complete once this module has been loaded


def softplus(x: Balls) -> Balls:
    return oracle.log(1 + oracle.exp(x))


def sigmoid(x: Balls) -> Balls:
    return 1 / (1 + oracle.exp(-x))


@truth_of("policy.sampled_kl", units=16)
def of_k3(g: Balls, log_p: Balls, log_q: Balls) -> Truth:
    x = log_q - log_p
    slope = oracle.exp(x) - 1
    return [(slope - x, None), (-g * slope, None), (g * slope, None)]


@truth_of("policy.clipped_loss", units=8, clip=(0.25, 0.25))
def of_clipped(g: Balls, log_p: Balls, log_old: Balls, advantage: Balls) -> Truth:
    ratio = oracle.exp(log_p - log_old)
    upper, lower = arb(1.25), arb(0.75)
    clipped = oracle.each(lambda r, a: int((a > 0 and r > upper) or (a < 0 and r < lower)), ratio, advantage)
    chosen = oracle.each(lambda r, a, out: (upper if a > 0 else lower) if out else r, ratio, advantage, clipped)
    inside = (1 - clipped) * ratio
    return [
        (-chosen * advantage, None),
        (-g * advantage * inside, None), (g * advantage * inside, None), (-g * chosen, None),
    ]  # fmt: skip


def relative(c: Balls, r: Balls, c0: Balls, r0: Balls) -> Balls:
    return (c - c0) - (r - r0)


@truth_of("preference.dpo_loss", units=16)
def of_dpo(g: Balls, c: Balls, r: Balls, c0: Balls, r0: Balls, beta: Balls, smoothing: Balls) -> Truth:
    h = relative(c, r, c0, r0)
    wrong = sigmoid(-beta * h)
    terms = (1 - smoothing) * softplus(-beta * h), smoothing * softplus(beta * h)
    slope, size = (
        smoothing * sigmoid(beta * h) - (1 - smoothing) * wrong,
        smoothing * sigmoid(beta * h) + (1 - smoothing) * wrong,
    )
    # σ(-βh) and softplus(-βh) feel the rounding of βh by a factor of |βh|.
    feel = 1 + abs(beta * h)
    margin = [(sign * g * beta * slope, abs(g) * beta * size * feel) for sign in (1, -1, -1, 1)]
    return [
        (terms[0] + terms[1], (terms[0] + terms[1]) * feel), *margin,
        (g * h * slope, abs(g * h) * size * feel), (g * beta * h, None),
    ]  # fmt: skip


@truth_of("preference.ipo_loss", units=16)
def of_ipo(g: Balls, c: Balls, r: Balls, c0: Balls, r0: Balls, beta: Balls) -> Truth:
    h, goal = relative(c, r, c0, r0), 1 / (2 * beta)
    size = abs(h) + goal
    slopes = [(2 * sign * g * (h - goal), 2 * abs(g) * size) for sign in (1, -1, -1, 1)]
    return [((h - goal) ** 2, abs(h - goal) * size), *slopes, (g * (h - goal) / beta**2, abs(g) * size / beta**2)]


@truth_of("preference.kto_loss", units=16)
def of_kto(g: Balls, log_p: Balls, reference: Balls, desirable: Balls, kl: Balls, beta: Balls) -> Truth:
    sign = oracle.each(lambda d: arb(1) if d else arb(-1), desirable)
    gain = log_p - reference - kl
    x = -sign * beta * gain
    slope, feel = sigmoid(x) * sigmoid(-x), 1 + abs(x)
    moved = [(s * g * sign * beta * slope, abs(g) * beta * slope * feel) for s in (-1, 1, 1)]
    return [(sigmoid(x), sigmoid(x) * feel), *moved, (-g * sign * gain * slope, abs(g * gain) * slope * feel)]


def logistic(g: Balls, x: Balls, difference: Balls, beta: Balls) -> tuple[Balls, Balls, list[tuple[Balls, Balls]]]:
    """softplus(x) of x = m - β(c - r), what rounding x changes in σ(x), and the cotangents of c, r and β."""
    feel = 1 + abs(beta * difference) + abs(x)
    slope = sigmoid(x)
    pulled = [(-g * beta * slope, None), (g * beta * slope, None), (-g * difference * slope, None)]
    return softplus(x), feel, [(truth, abs(truth) * feel) for truth, _ in pulled]


@truth_of("preference.cpo_loss", units=16)
def of_cpo(g: Balls, c: Balls, r: Balls, beta: Balls) -> Truth:
    value, feel, (in_c, in_r, in_beta) = logistic(g, -beta * (c - r), c - r, beta)
    return [(value - c, value * feel - c), (in_c[0] - g, in_c[1] + abs(g)), in_r, in_beta]


@truth_of("preference.simpo_loss", units=16)
def of_simpo(g: Balls, c: Balls, r: Balls, beta: Balls, margin: Balls) -> Truth:
    x = margin - beta * (c - r)
    value, feel, pulled = logistic(g, x, c - r, beta)
    in_margin = g * sigmoid(x)
    return [(value, value * feel), *pulled, (in_margin, abs(in_margin) * feel)]


@truth_of("preference.orpo_loss", units=16)
def of_orpo(g: Balls, c: Balls, r: Balls, weight: Balls) -> Truth:
    chosen, rejected = oracle.exp(c), oracle.exp(r)
    odds = rejected * (1 - chosen) / (chosen * (1 - rejected))
    penalty = oracle.log(1 + odds)
    share = rejected / (chosen * (1 - rejected) + rejected * (1 - chosen))
    return [
        (weight * penalty - c, None),
        (-g - g * weight * share, None), (g * weight * share * (1 - chosen) / (1 - rejected), None),
        (g * penalty, None),
    ]  # fmt: skip
