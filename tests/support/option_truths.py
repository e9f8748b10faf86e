"""The truth of the softmax losses with any of their options, in ball arithmetic: one class, written as defined."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from flint import arb

from lossjax.verify import oracle
from lossjax.verify.ulp import Balls
from tests.support.truths import Truth, truth_of

Curve = Callable[[arb, Any], tuple[arb, arb, arb]]
"""From a surprisal and the parameter: F, its slope, and its derivative in the parameter."""


def cross_entropy(surprisal: arb, _: Any) -> tuple[arb, arb, arb]:
    return surprisal, arb(1), arb(0)


def focal(surprisal: arb, gamma: arb) -> tuple[arb, arb, arb]:
    p = (-surprisal).exp()
    m = 1 - p
    if m == 0:  # one class: nothing is left to learn, at any γ > 0
        return arb(0), arb(0), arb(0)
    return m**gamma * surprisal, m**gamma * (1 + gamma * surprisal * p / m), m**gamma * surprisal * m.log()


def poly(surprisal: arb, epsilon: arb) -> tuple[arb, arb, arb]:
    p = (-surprisal).exp()
    return surprisal + epsilon * (1 - p), 1 + epsilon * p, 1 - p


def generalized(surprisal: arb, q: arb) -> tuple[arb, arb, arb]:
    x = q * surprisal
    power = (-x).exp()
    return (1 - power) / q, power, -(1 - power * (1 + x)) / (q * q)


@dataclasses.dataclass(frozen=True)
class OptionTruth:
    """A softmax loss with options; ``names`` are the arguments after logits and targets, in order.

    Errors are measured against the terms that are added: class weights, smoothing and z-loss subtract terms of one
    size. Softcap and temperature round the logits again, each to some u of their size, which every probability feels:
    there the scale grows by 1 + max|z|.
    """

    names: tuple[str, ...] = ()
    curve: Curve = cross_entropy
    parameter: float | None = None
    label_smoothing: float = 0.0
    smoothing: str = "uniform"
    ignore_index: int | None = None
    reduction: str = "none"

    def __call__(self, g: Balls, x: Balls, targets: Any, *given: Balls) -> Truth:
        rows, classes = x.shape
        option = {name: value[()] if value.ndim == 0 else value for name, value in zip(self.names, given, strict=True)}
        labelled = targets.ndim < x.ndim
        cap, temperature = option.get("logit_softcap"), option.get("temperature")
        theta = next((option[n] for n in ("gamma", "epsilon", "q") if n in option), None)
        theta = arb(self.parameter) if theta is None and self.parameter is not None else theta
        a = x if cap is None else x / cap
        z1 = x if cap is None else oracle.each(lambda v: cap * v.tanh(), a)
        z = z1 if temperature is None else z1 / temperature
        rough = np.full((rows, 1), arb(1), object)
        if cap is not None or temperature is not None:
            rough = 1 + np.array([[max(abs(v) for v in row)] for row in z], object)

        t = oracle.one_hot(targets, classes) if labelled else targets
        smooth = self._smoother(classes)
        t = smooth(t)
        w = option.get("class_weights", np.full(classes, arb(1), object))
        own = np.array([w[c] for c in targets], object) if labelled else np.full(rows, arb(1), object)
        ignored = targets == self.ignore_index if labelled else np.zeros(rows, bool)
        kept = np.array([arb(0 if one else 1) for one in ignored], object)
        lam = option.get("z_loss", arb(0))

        p, lse = oracle.softmax(z), oracle.log_sum_exp(z)
        surprisal = -oracle.log(p) if classes > 1 else 0 * z  # not a ball around 0
        curves = oracle.each(lambda s: self.curve(s, theta), surprisal)
        F, slope = (oracle.each(lambda c, i=i: c[i], curves) for i in range(2))
        losses = oracle.total(w * t * F) + lam * own * lse * lse
        size = oracle.total(abs(w * t * F)) + lam * own * lse * lse
        mass = np.add.reduce(own * kept) if self.reduction == "mean" else arb(1)
        if self.reduction == "none":
            value, value_scale, row_g = losses * kept, size * kept * rough[:, 0], g * kept
        else:
            value = np.asarray(np.add.reduce(losses * kept) / mass, object)
            value_scale = np.asarray(np.add.reduce(size * kept * rough[:, 0]) / mass, object)
            row_g = g[()] * kept / mass
        gk, along = row_g[:, None], own[:, None]
        s, S = w * t * slope, oracle.total(w * t * slope)[:, None]
        in_z = gk * (S * p - s + 2 * lam * along * lse[:, None] * p)
        in_z_scale = abs(gk) * (abs(S) * p + abs(s) + 2 * lam * along * abs(lse)[:, None] * p) * rough
        out: Truth = [(value, value_scale)]
        step = in_z if temperature is None else in_z / temperature
        step_scale = in_z_scale if temperature is None else in_z_scale / temperature
        bent = np.full(x.shape, arb(1), object) if cap is None else oracle.each(lambda v: 1 / v.cosh() ** 2, a)
        out.append((step * bent, step_scale * bent))
        if not labelled:
            out.append((smooth(gk * w * F), smooth(abs(gk * w * F) * rough)))
        for name in self.names:
            out.append(self._in_option(name, locals()))
        return out

    def _in_option(self, name: str, at: dict[str, Any]) -> tuple[Balls, Balls]:
        """The gradient in one option, and the sum of the sizes of its terms."""
        gk, along, rough, z, lse = at["gk"], at["along"], at["rough"], at["z"], at["lse"][:, None]
        if name == "class_weights":
            terms = gk * at["t"] * at["F"]
            if at["labelled"]:
                terms = terms + gk * oracle.one_hot(at["targets"], z.shape[-1]) * at["lam"] * lse * lse
            scale = np.add.reduce(abs(terms) * rough)
            if self.reduction == "mean" and at["labelled"]:
                counted = oracle.one_hot(at["targets"], z.shape[-1]) * at["kept"][:, None]
                share = at["g"][()] * at["value"][()] / at["mass"] * np.add.reduce(counted)
                scale = scale + abs(at["g"][()]) * at["value_scale"][()] / at["mass"] * np.add.reduce(counted)
                return np.add.reduce(terms) - share, scale
            return np.add.reduce(terms), scale
        if name == "z_loss":
            terms = gk * along * lse * lse
            return self._sum(terms, abs(terms) * rough)
        if name == "temperature":
            return self._sum(-at["in_z"] * z / at["temperature"], at["in_z_scale"] * abs(z) / at["temperature"])
        if name == "logit_softcap":
            in_cap = oracle.each(lambda v: v.tanh() - v / v.cosh() ** 2, at["a"])
            return self._sum(at["step"] * in_cap, at["step_scale"] * abs(in_cap))
        terms = gk * at["w"] * at["t"] * oracle.each(lambda c: c[2], at["curves"])
        return self._sum(terms, abs(terms) * rough)

    @staticmethod
    def _sum(terms: Balls, scale: Balls) -> tuple[Balls, Balls]:
        return np.asarray(np.sum(terms), object), np.asarray(np.sum(scale), object)

    def _smoother(self, classes: int) -> Callable[[Balls], Balls]:
        """t -> the smoothed t; linear and symmetric."""
        amount = arb(self.label_smoothing)

        def smooth(t: Balls) -> Balls:
            mass = oracle.total(t)[..., None]
            if self.smoothing == "others":
                return (1 - amount) * t + (amount * (mass - t) / (classes - 1) if classes > 1 else 0 * t)
            return (1 - amount) * t + amount * mass / classes

        return smooth if self.label_smoothing else lambda t: t


truth_of("softmax_focal_loss", 32)(OptionTruth(curve=focal, parameter=2.0))
truth_of("poly_cross_entropy", 16)(OptionTruth(curve=poly, parameter=2.0))
truth_of("generalized_cross_entropy", 24, q=0.75)(OptionTruth(curve=generalized, parameter=0.75))
