"""Arguments to certify each public loss of lossjax with, drawn as its signature says."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import lossjax
from lossjax.verify.signatures import KINDS, SIGNATURES

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""The dtypes that losses are certified in."""

SHAPE = (5, 7)
"""Rows and classes."""


class Sample(NamedTuple):
    """A loss, arguments for it, which of them it is differentiated in, and the units of roundoff it is allowed."""

    name: str
    loss: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    argnums: tuple[int, ...]
    ulps: float = 8


def names() -> tuple[str, ...]:
    """The public losses: those with a plain formula to be checked against. ``policy.sampled_kl`` is a name too."""
    modules = {"": lossjax, "policy.": lossjax.policy, "preference.": lossjax.preference}
    return tuple(
        prefix + name
        for prefix, module in modules.items()
        for name in module.__all__
        if hasattr(vars(module).get(name), "plain")
    )


def loss_of(name: str) -> Callable[..., Any]:
    """The public loss of this name."""
    return operator.attrgetter(name)(lossjax)


def sample(name: str, dtype: Any, shape: tuple[int, int] = SHAPE) -> Sample:
    """The loss of this name with arguments of this dtype and shape: always the same.

    Each argument is drawn by itself, so that another kind, or another loss, changes no argument of this one.
    """
    signature = SIGNATURES[name]
    arguments = tuple(
        drawn if KINDS[kind].integer else np.asarray(drawn, dtype)
        for position, kind in enumerate(signature.kinds)
        for drawn in [KINDS[kind].draw(np.random.default_rng([position, *kind.encode()]), shape)]
    )
    loss = bound(loss_of(name), *signature.options)
    return Sample(name, loss, arguments, signature.argnums, signature.ulps)


def bound(loss: Callable[..., Any], *names: str, **fixed: Any) -> Callable[..., Any]:
    """The loss with the options in ``names`` as further positional arguments, and those in ``fixed`` fixed.

    Its plain form is bound likewise. A loss without either is returned as it is.
    """
    if not names and not fixed:
        return loss

    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **more: Any) -> Any:
            split = len(arguments) - len(names)
            return function(*arguments[:split], **dict(zip(names, arguments[split:], strict=True)), **fixed, **more)

        return called

    result = of(loss)
    if hasattr(loss, "plain"):
        result.plain = of(loss.plain)  # pyright: ignore[reportFunctionMemberAccess]  # functions take attributes
    return result
