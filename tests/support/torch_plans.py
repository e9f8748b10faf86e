"""How each recorded case of PyTorch is asked of lossjax: the call, the arguments, and the terms of its sums."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from tests.support.torch_cases import Case, Plan, per_row

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
ours: Any = lossjax


# --- softmax cross-entropy -------------------------------------------------------------------------------------------


def class_axis(logits: np.ndarray) -> int:
    return min(1, logits.ndim - 1)


def along(axis: int, weights: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
    """Class weights, or ones, of the shape of the logits."""
    shape = [1] * logits.ndim
    shape[axis] = -1
    return np.broadcast_to((np.ones(logits.shape[axis]) if weights is None else weights).reshape(shape), logits.shape)


def log_probabilities(logits: np.ndarray, axis: int) -> np.ndarray:
    z = logits - logits.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def softmax_terms(logits: np.ndarray, target: np.ndarray, weights: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    """Of -Σ w t log p and its gradients, for a target that is smoothed already."""
    of_log_p = 1 + logits.max(axis=axis, keepdims=True) - logits
    weighted = weights * target
    mass = weighted.sum(axis=axis, keepdims=True)
    return {
        "value": (weighted * of_log_p).sum(axis=axis, keepdims=True),
        "input": weighted + mass * np.exp(log_probabilities(logits, axis)),
        "target": weights * of_log_p,
        "weight": target * of_log_p,
    }


def labels_plan(case: Case, **changes: Any) -> Plan:
    logits, labels, weight = case.inputs["input"], case.inputs["target"], case.inputs.get("weight")
    axis, amount, ignored = class_axis(logits), case.options["label_smoothing"], case.options.get("ignore_index")
    classes = logits.shape[axis]
    options: dict[str, Any] = {
        "axis": axis,
        "ignore_index": ignored,
        "class_weights": weight,
        "label_smoothing": amount,
        "reduction": case.reduction,
    } | changes

    def loss(z: jax.Array) -> jax.Array:
        return ours.softmax_cross_entropy_with_integer_labels(z, jnp.asarray(labels), **options)

    hot = np.moveaxis(labels[..., None] == np.arange(classes), -1, axis)
    counted = np.expand_dims(labels != ignored if ignored is not None else np.ones(labels.shape, bool), axis)
    weights = along(axis, weight, logits)
    target = np.where(counted, (1 - amount) * hot + amount / classes, 0)
    mass = float(np.sum(weights * hot * counted))
    return Plan(loss, {"input": logits}, case.outputs, softmax_terms(logits, target, weights, axis), mass, axis)


def targets_plan(case: Case, *, by_hand: bool | None = None) -> Plan:
    """Of a distribution, lossjax's own smoothing, and the gradient in it along the simplex.

    Any other target is smoothed ``by_hand``, as PyTorch does it.
    """
    logits, target, weight = case.inputs["input"], case.inputs["target"], case.inputs.get("weight")
    axis, amount = class_axis(logits), case.options["label_smoothing"]
    classes = logits.shape[axis]
    if by_hand is None:
        by_hand = case.name.startswith("mass")

    def loss(z: jax.Array, t: jax.Array, w: jax.Array | None = None) -> jax.Array:
        smoothed = (1 - amount) * t + amount / classes if by_hand else t
        return ours.softmax_cross_entropy(
            z, smoothed, axis=axis, class_weights=w, label_smoothing=0 if by_hand else amount, reduction=case.reduction
        )

    weights = along(axis, weight, logits)
    terms = softmax_terms(logits, (1 - amount) * target + amount / classes, weights, axis)
    smoothing = bool(amount) and not by_hand
    if smoothing:  # the gradient in every entry of the target is then a sum over the classes
        terms["target"] = np.broadcast_to(terms["target"].max(axis=axis, keepdims=True), logits.shape)
    arguments = {"input": logits, "target": target} | ({} if weight is None else {"weight": weight})
    rows = logits.size / classes
    return Plan(loss, arguments, case.outputs, terms, rows, axis, ("target",) if smoothing else ())


def cross_entropy_plan(case: Case) -> Plan:
    return labels_plan(case) if case.name.startswith("labels") else targets_plan(case)


# --- elementwise losses ----------------------------------------------------------------------------------------------


def sigmoid_plan(case: Case) -> Plan:
    z, y, weight = case.inputs["input"], case.inputs["target"], case.inputs.get("pos_weight")

    def loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
        return ours.sigmoid_cross_entropy(logits, targets, pos_weight=weight, reduction=case.reduction)

    w = np.asarray(1.0) if weight is None else weight
    both = (1 - y) + (1 + np.abs(w - 1) * y)  # PyTorch: (1 - y) z + (1 + (w - 1) y) softplus(-z)
    terms = {"value": both * (1 + np.abs(z)), "input": both, "target": (1 + w) * (1 + np.abs(z))}
    return Plan(loss, {"input": z, "target": y}, case.outputs, terms, z.size)


def squared_error_plan(case: Case) -> Plan:
    weight = case.inputs.get("weight")

    def loss(prediction: jax.Array, target: jax.Array, w: jax.Array | None = None) -> jax.Array:
        if case.reduction == "mean":
            return ours.mean_squared_error(prediction, target, weights=w)
        return ours.squared_error(prediction, target, weights=w, reduction=case.reduction)

    prediction, target = case.inputs["input"], case.inputs["target"]
    error, w = np.abs(prediction - target), np.ones(prediction.shape) if weight is None else weight
    mean = np.average(error**2, weights=w) if case.reduction == "mean" else 0
    terms = {"value": w * error**2, "input": 2 * w * error, "target": 2 * w * error, "weight": error**2 + mean}
    arguments = {"input": prediction, "target": target} | ({} if weight is None else {"weight": weight})
    return Plan(loss, arguments, case.outputs, terms, w.sum())


def gaussian_plan(case: Case) -> Plan:
    """By s = log var: dL/ds = var·dL/dvar. Without ``full``, PyTorch leaves out ½ log 2π an element."""
    mean, target, var = (case.inputs[key] for key in ("input", "target", "var"))

    def loss(mean: jax.Array, target: jax.Array, log_variance: jax.Array) -> jax.Array:
        return ours.gaussian_nll(mean, target, log_variance=log_variance, reduction=case.reduction)

    left_out = 0 if case.options["full"] else HALF_LOG_2PI * (mean.size if case.reduction == "sum" else 1)
    outputs = case.outputs
    want = {
        "value": outputs["value"] + left_out,
        "input": outputs["input"],
        "target": outputs["target"],
        "log_variance": var * outputs["var"],
    }
    error, s = np.abs(mean - target), np.log(var)
    terms = {
        "value": 0.5 * (math.log(2 * math.pi) + np.abs(s) + error**2 / var),
        "input": error / var,
        "target": error / var,
        "log_variance": 0.5 * (1 + error**2 / var),
    }
    return Plan(loss, {"input": mean, "target": target, "log_variance": s}, want, terms, mean.size)


def poisson_plan(case: Case) -> Plan:
    """With ``full`` PyTorch adds Stirling's approximation of log t! for t > 1; for 0 and 1 it adds log t! = 0."""
    z, t, full = case.inputs["input"], case.inputs["target"], case.options["full"]

    def loss(log_rate: jax.Array, *target: jax.Array) -> jax.Array:
        (targets,) = target or (jnp.asarray(t),)
        return ours.poisson_nll(log_rate, targets, full=full, reduction=case.reduction)

    terms = {"value": np.exp(z) + np.abs(t * z), "input": np.exp(z) + t, "target": np.abs(z)}
    arguments = {"input": z} | ({} if full else {"target": t})
    return Plan(loss, arguments, case.outputs, terms, z.size)


def huber_plan(case: Case) -> Plan:
    """Huber's loss, or smooth L1, which is Huber's divided by its threshold."""
    smooth = case.function == "smooth_l1_loss"
    threshold = case.options["beta" if smooth else "delta"]
    divisor = threshold if smooth else 1

    def loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
        if smooth:
            return ours.smooth_l1_loss(prediction, target, beta=threshold, reduction=case.reduction)
        return ours.huber_loss(prediction, target, delta=threshold, reduction=case.reduction)

    prediction, target = case.inputs["input"], case.inputs["target"]
    error = np.abs(prediction - target)
    slope = np.minimum(error, threshold) / divisor
    terms = {"value": threshold * (error + threshold) / divisor, "input": slope, "target": slope}
    return Plan(loss, {"input": prediction, "target": target}, case.outputs, terms, prediction.size)


# --- rows of probabilities, and of vectors ---------------------------------------------------------------------------


def cosine_plan(case: Case) -> Plan:
    axis, x, y = case.options["dim"], case.inputs["x1"], case.inputs["x2"]

    def loss(first: jax.Array, second: jax.Array) -> jax.Array:
        return ours.cosine_similarity(first, second, axis=axis)

    lengths = [np.sqrt((a * a).sum(axis=axis, keepdims=True)) for a in (x, y)]
    unit = np.abs(x) / lengths[0] + np.abs(y) / lengths[1]
    terms = {"value": np.ones(lengths[0].shape), "x1": unit / lengths[0], "x2": unit / lengths[1]}
    return Plan(loss, {"x1": x, "x2": y}, case.outputs, terms, 1, axis)


def divergence_plan(
    case: Case, loss: Callable[..., jax.Array], arguments: dict[str, np.ndarray], log_q: np.ndarray, log_p: np.ndarray
) -> Plan:
    """PyTorch sums p log p - p log q; "batchmean" divides by the length of the first axis."""
    axis, batch = case.options["dim"], len(log_q)

    def reduced(*args: jax.Array) -> jax.Array:
        rows = loss(*args)
        return rows if case.reduction == "none" else jnp.sum(rows) / (batch if case.reduction == "batchmean" else 1)

    p, q = np.exp(log_p), np.exp(log_q)
    logs = np.where(p > 0, np.abs(log_p), 0) + np.abs(log_q)
    value = 1 + (p * logs).sum(axis=axis, keepdims=True)
    terms = {"value": value, "input": p + q, "logits_q": p + q, "logits_p": p * (logs + value)}
    terms["target"] = (1 + logs) * (p if case.options["log_target"] else 1)
    return Plan(reduced, arguments, dict(case.outputs), terms, batch, axis)


def logits_kl_plan(case: Case, *, through_probabilities: bool = False) -> Plan:
    """``F.kl_div(log q, p)`` is KL(p‖q), of which lossjax's arguments are p and q in this order."""
    axis = case.options["dim"]

    def loss(logits_q: jax.Array, logits_p: jax.Array) -> jax.Array:
        if through_probabilities:
            p, q = (ours.softmax(z, axis=axis) for z in (logits_p, logits_q))
            return ours.kl_divergence(p, q, axis=axis)
        return ours.softmax_kl_divergence(logits_p, logits_q, axis=axis)

    arguments = {key: case.inputs[key] for key in ("logits_q", "logits_p")}
    return divergence_plan(case, loss, arguments, *(log_probabilities(z, axis) for z in arguments.values()))


def kl_plan(case: Case) -> Plan:
    """lossjax adds Σ(q - p), which is 0 for distributions; its gradients, g q in log q and -g in p, are not."""
    log_q, target, of_logs = case.inputs["input"], case.inputs["target"], case.options["log_target"]
    axis = case.options["dim"]

    def loss(log_q: jax.Array, *p: jax.Array) -> jax.Array:
        (last,) = p or (jnp.asarray(target),)
        return ours.kl_divergence(jnp.exp(last) if of_logs else last, jnp.exp(log_q), axis=axis)

    with np.errstate(divide="ignore"):
        log_p = target if of_logs else np.log(target)
    arguments = {key: case.inputs[key] for key in ("input", "target") if key in case.outputs}
    plan = divergence_plan(case, loss, arguments, log_q, log_p)
    g = per_row(case, plan)
    plan.want["input"] = plan.want["input"] + g * np.exp(log_q)
    if "target" in arguments:
        plan.want["target"] = plan.want["target"] - g * (np.exp(target) if of_logs else 1)
    return plan


PLANS: dict[str, Callable[[Case], Plan]] = {
    "cross_entropy": cross_entropy_plan,
    "binary_cross_entropy_with_logits": sigmoid_plan,
    "mse_loss": squared_error_plan,
    "gaussian_nll_loss": gaussian_plan,
    "poisson_nll_loss": poisson_plan,
    "huber_loss": huber_plan,
    "smooth_l1_loss": huber_plan,
    "cosine_similarity": cosine_plan,
    "kl_div": kl_plan,
    "kl_div_of_logits": logits_kl_plan,
}
