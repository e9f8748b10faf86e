"""The plain form of a loss: the same function, with every closed-form rule in it replaced by its formula.

JAX then differentiates the formula by itself. Tests and the verifier compare the rules with it.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

Function = TypeVar("Function")

_rules_are_off: contextvars.ContextVar[bool] = contextvars.ContextVar("lossjax_rules_are_off", default=False)


class Loss(Protocol[Function]):
    """What a type checker sees of a loss: it is called as the function it was made of, and ``plain`` is too."""

    __call__: Function
    plain: Function


def with_plain(loss: Function) -> Loss[Function]:
    """Attach ``loss.plain``, which has the loss's own signature, and pickles by the name ``loss.plain``."""
    function = cast(Callable[..., Any], loss)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with rules_off():
            return function(*args, **kwargs)

    plain.__qualname__ = f"{function.__qualname__}.plain"
    result = cast(Loss[Function], loss)
    result.plain = cast(Function, plain)
    return result


def plain_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    """``loss.plain`` of any function; TypeError for a function that has no plain form."""
    plain = getattr(loss, "plain", None)
    if plain is None:
        raise TypeError(f"{getattr(loss, '__name__', loss)} has no plain form; decorate it with with_plain")
    return plain


@contextlib.contextmanager
def rules_off() -> Iterator[None]:
    """While JAX traces inside, each closed-form function is its plain formula."""
    token = _rules_are_off.set(True)
    try:
        yield
    finally:
        _rules_are_off.reset(token)


def rules_are_off() -> bool:
    """Whether :func:`rules_off` holds here."""
    return _rules_are_off.get()
