"""Keyword options that many losses share, written once.

An option is an entry of a ``TypedDict``, whose annotation holds all there is to say about it: its type, its default,
and its meaning. A loss takes the whole list as ``**options: Unpack[SomeOptions]`` (PEP 692), so type checkers and
editors know each option by name and type. ``with_options`` tells the same to whoever asks at run time:
``inspect.signature``, ``help``, and the caller who misspells a name.
"""

import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
Overloads = TypeVar("Overloads")

_PLACE = re.compile(r"^( *)\*\*options: .*\n(?:\1 +.*\n)*", re.M)
"""The line of a docstring's ``Args:`` that stands for all shared options, with its continuation lines."""


@dataclasses.dataclass(frozen=True)
class Option:
    """The default and the meaning of an option: ``name: Annotated[type, Option(default, meaning)]``."""

    default: Any
    meaning: str


@functools.cache
def options_of(kind: type) -> dict[str, Option]:
    """Each entry of a ``TypedDict`` of options, inherited ones first."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


@functools.cache
def _parameters(kind: type) -> tuple[inspect.Parameter, ...]:
    types, keyword = typing.get_type_hints(kind), inspect.Parameter.KEYWORD_ONLY
    return tuple(
        inspect.Parameter(name, keyword, default=option.default, annotation=types[name])
        for name, option in options_of(kind).items()
    )


def complete(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a ``TypedDict``: those that were given, and the defaults of the others."""
    return {name: option.default for name, option in options_of(kind).items()} | dict(given)


def with_options(function: Function) -> Function:
    """Show the entries of ``**options: Unpack[SomeOptions]`` as keyword-only parameters of the function.

    ``inspect.signature`` has every option with its default, the line ``**options: …`` of the docstring's ``Args:``
    becomes a line per option, and a name that is not among them raises the ordinary ``TypeError``, with the nearest
    name that is. An option that the docstring describes itself keeps that description.
    """
    signature = inspect.signature(function)
    *parameters, rest = signature.parameters.values()
    (kind,) = typing.get_args(rest.annotation)
    parameters += _parameters(kind)
    known = {parameter.name for parameter in parameters}

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in known:
                raise TypeError(_unexpected(function.__qualname__, name, known))
        return function(*args, **given)

    checked.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]  # functions take attributes
    checked.__doc__ = _documented(function.__doc__ or "", options_of(kind))
    return cast(Function, checked)


def with_overloads(protocol: type[Overloads]) -> Callable[[Callable[..., Any]], Overloads]:
    """For type checkers: the decorated function has the overloads that this protocol's ``__call__`` lists.

    A function cannot have both overloads of its own and a decorator that changes its type.
    """
    return lambda function: cast(Overloads, function)


def _documented(docstring: str, options: dict[str, Option]) -> str:
    place = _PLACE.search(docstring)
    if place is None:
        raise ValueError("Args: lacks the line **options: …, where the shared options are to be described")
    indent = place[1]
    own = set(re.findall(rf"^{indent}(\w+):", docstring, re.M))
    lines = [_described(name, option, indent) for name, option in options.items() if name not in own]
    return docstring[: place.start()] + "\n".join(lines) + "\n" + docstring[place.end() :]


@functools.cache
def _described(name: str, option: Option, indent: str) -> str:
    """The lines of ``Args:`` that describe an option."""
    default = f'"{option.default}"' if isinstance(option.default, str) else str(option.default)
    text = f"{name}: {option.meaning} Default: {default}."
    return textwrap.fill(text, 120, initial_indent=indent, subsequent_indent=f"{indent}  ")


def _unexpected(function: str, name: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, sorted(known), n=1)
    remedy = f" Did you mean {near[0]!r}?" if near else f" Its options are {', '.join(sorted(known))}."
    return f"{function}() got an unexpected keyword argument {name!r}.{remedy}"
