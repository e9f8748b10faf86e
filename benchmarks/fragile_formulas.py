"""The formulas of post-training as they are usually written, beside lossjax's: the errors of both, as a Markdown table.

Run: python benchmarks/fragile_formulas.py [--markdown docs/post_training_heads.md]

Each is evaluated in float32, value and gradient, at arguments at which training arrives. The truth is the usual formula
itself, executed in exact arithmetic: what it would give if nothing were rounded.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax.bench import markdown_tables
from lossjax.verify import exact


class Formula(NamedTuple):
    """The usual code, where it is evaluated, the code as a function, and lossjax's of the same arguments."""

    code: str
    where: str
    usual: Callable[..., Any]
    ours: Callable[..., Any]
    arguments: tuple[Any, ...]


def _orpo(chosen: Any, rejected: Any) -> Any:
    odds = (chosen - rejected) - (jnp.log1p(-jnp.exp(chosen)) - jnp.log1p(-jnp.exp(rejected)))
    return -chosen + jnp.log1p(jnp.exp(-odds))


def _divergence(u: Any, v: Any) -> Any:
    log_p, log_q = jax.nn.log_softmax(u), jax.nn.log_softmax(v)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def _entropy(z: Any) -> Any:
    return jax.nn.logsumexp(z) - jnp.sum(jax.nn.softmax(z) * z)


def _tail(z: Any) -> Any:
    """The bin of all classes but the first, of probability 1 - p_0, where the teacher has 1/2 of its mass."""
    log_p = jax.nn.log_softmax(z)[0]
    return -(log_p + jnp.log(1 - jnp.exp(log_p))) / 2


def _with_tail(z: Any) -> Any:
    return lossjax.softmax_cross_entropy_with_sparse_targets(z, jnp.zeros(1, int), jnp.array([0.5]), tail=True)


def _focal(z: Any) -> Any:
    p = jax.nn.softmax(z)[0]
    return -jnp.square(1 - p) * jnp.log(p)


def _row(*entries: float) -> Any:
    return jnp.array(entries, jnp.float32)


_LOGITS = jax.random.normal(jax.random.key(0), (64,))
_NEAR = _LOGITS + 1e-3 * jax.random.normal(jax.random.key(1), (64,))
_ONE = jnp.float32
FORMULAS = (
    *(
        Formula(
            "`exp(d) - d - 1`", f"k3, d = {d:g}", lambda d: jnp.exp(d) - d - 1,
            lambda d: lossjax.policy.sampled_kl(jnp.zeros_like(d), d), (_ONE(d),),
        )
        for d in (1e-2, 1e-3, 1e-4)
    ),
    Formula("`z[c] - logsumexp(z)`", "a margin of 17", lambda z: z[0] - jax.nn.logsumexp(z),
            lambda z: lossjax.token_log_probs(z, jnp.int32(0)), (_row(17, 0, 0, 0),)),
    Formula("`z[c] - logsumexp(z)`", "an offset of 1000", lambda z: z[0] - jax.nn.logsumexp(z),
            lambda z: lossjax.token_log_probs(z, jnp.int32(0)), (_row(1010, 1000, 1000, 1000),)),
    Formula("`logsumexp(z) - sum(softmax(z) * z)`", "entropy, a margin of 17", _entropy, lossjax.softmax_entropy,
            (_row(17, 0, 0, 0),)),
    Formula("`sum(exp(lp) * (lp - lq))`", "KL, logits 1e-3 apart", _divergence, lossjax.softmax_kl_divergence,
            (_LOGITS, _NEAR)),
    Formula("`log(1 - exp(lp))`", "the tail of a top k, 4e-8 of the mass", _tail, _with_tail, (_row(17, 0),)),
    Formula("`log1p(-exp(l))`", "ORPO, l = -1e-7", _orpo,
            lambda c, r: lossjax.preference.orpo_loss(c, r, weight=1.0), (_ONE(-1e-7), _ONE(-3.0))),
    Formula("`-(1 - p)**2 * log(p)`", "focal loss, a margin of 14", _focal,
            lambda z: lossjax.softmax_focal_loss(z, jnp.int32(0)), (_row(14, 0, 0, 0),)),
    Formula("`(exp(v) - 1 - v) / 2`", "VAE, log-variance 1e-3", lambda v: (jnp.exp(v) - 1 - v) / 2,
            lambda v: lossjax.numerics.xi(v) / 2, (_ONE(1e-3),)),
    Formula("`-log(sigmoid(x))`", "DPO, x = -104", lambda x: -jnp.log(1 / (1 + jnp.exp(-x))),
            lambda x: lossjax.preference.dpo_loss(x, jnp.zeros_like(x), jnp.zeros_like(x), jnp.zeros_like(x), beta=1.0),
            (_ONE(-104.0),)),
)  # fmt: skip


def largest(got: Any, truth: Any) -> float:
    """The largest relative error of any entry; that of a number that is not finite is infinite."""
    worst = 0.0
    for g, t in zip(jax.tree.leaves(got), jax.tree.leaves(truth), strict=True):
        for one, true in zip(np.ravel(g), np.ravel(t), strict=True):
            off = abs(float(one) - float(true)) / abs(float(true)) if np.isfinite(one) else np.inf
            worst = max(worst, off)
    return worst


def errors(formula: Formula) -> tuple[float, float, float, float]:
    """Of the usual code, value and gradient; and of lossjax."""
    argnums = tuple(range(len(formula.arguments)))
    truth = exact(jax.value_and_grad(formula.usual, argnums))(*formula.arguments)
    found = []
    for function in (formula.usual, formula.ours):
        value, gradient = jax.value_and_grad(function, argnums)(*formula.arguments)
        found += [largest(value, truth[0]), largest(gradient, truth[1])]
    return found[0], found[1], found[2], found[3]


def _shown(error: float) -> str:
    if not np.isfinite(error):
        return "no number"
    if error < 5e-4:
        return f"{error:.0e}"
    return f"{100 * error:.0f} %" if error >= 0.995 else f"{100 * error:.2g} %"


def markdown() -> str:
    """The table."""
    lines = [
        "| usual code | where | the usual value | the usual gradient | lossjax's value | lossjax's gradient |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {f.code} | {f.where} | " + " | ".join(map(_shown, errors(f))) + " |" for f in FORMULAS]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="the page whose table is to be replaced")
    page = parser.parse_args().markdown
    print(markdown()) if page is None else markdown_tables.replace(page, "fragile", markdown())
