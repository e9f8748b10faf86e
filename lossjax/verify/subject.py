"""What ``lossjax check`` is told to check: a function by name, and arguments from files or drawn for it."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CHECKS = ("rule", "value", "gradient", "modes", "cotangent", "edges", "overflow")
"""The names of the checks, in the order in which a certificate's table shows them."""


class UsageError(ValueError):
    """One sentence for the person at the command line."""


def load(name: str) -> Callable[..., Any]:
    """The function named ``module:function`` (or ``path/file.py:function``; dots reach into what the module holds).

    Args:
      name: as on the command line; modules are also looked for in the current folder.

    Returns:
      The function.

    Raises:
      UsageError: a name without a colon, no such module or function, or something that cannot be called.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"{name!r} is no function: write module:function, as in optax.losses:log_cosh")
    try:
        module = _file(Path(module_name)) if module_name.endswith(".py") else _module(module_name)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported, and end the program
        raise UsageError(f"importing {module_name} failed: {type(error).__name__}: {_first_line(error)}") from error
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
        if found is None:
            names = [n for n in dir(module) if callable(getattr(module, n)) and not n.startswith("_")]
            raise UsageError(f"{module_name} has no {attribute!r}; it has {', '.join(names[:8]) or 'no function'}")
    if not callable(found):
        raise UsageError(f"{name} is a {type(found).__name__}, wanted a function")
    return found


def _module(name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(f"there is no module {missing!r}; is it installed, or in this folder?") from error
        raise


def _file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules.setdefault(path.stem, module)  # dataclasses look their module up, and so does `home`
    spec.loader.exec_module(module)
    return module


def read(path: Path, what: str) -> np.ndarray:
    """An array from a .npy file; UsageError if it is not one."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"cannot read {what} from {path}: {_first_line(error)}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise UsageError(f"{path} holds {getattr(array, 'dtype', type(array).__name__)}, wanted one array of numbers")
    return array


def arguments(function: Callable[..., Any], logits: np.ndarray | None, labels: np.ndarray | None) -> tuple[Any, ...]:
    """Arguments for the function: those given, the others drawn.

    Without labels a second argument is tried as integer labels, as a distribution, then as numbers of the logits'
    shape; the first that the function accepts is taken.

    Args:
      function: of logits, or of logits and something.
      logits: ``[N, C]`` floats, or None.
      labels: integers ``[N]`` or floats, or None.

    Returns:
      The arguments.

    Raises:
      UsageError: labels without logits, logits that are not floats, no arguments that the function accepts.
    """
    import jax

    if logits is None and labels is not None:
        raise UsageError("--labels needs --logits: they are the rows' labels")
    if logits is not None and logits.dtype.kind != "f":
        raise UsageError(f"the logits are {logits.dtype}, wanted floats")
    random = np.random.default_rng(0)
    z = np.float32(random.normal(size=(5, 7)) * 3) if logits is None else logits
    wanted = _required(function)
    if wanted is not None and wanted > 2:
        raise UsageError(
            f"{_name(function)} takes {wanted} arguments; wrap it as a function of logits, or of logits and labels"
        )
    *rows, classes = z.shape or (1,)
    seconds = [
        random.integers(0, classes, rows).astype(np.int32),
        np.asarray(random.dirichlet(np.ones(classes), rows), z.dtype) if z.ndim else z,
        np.asarray(random.normal(size=z.shape), z.dtype),
    ]
    if labels is not None:
        tries: list[tuple[Any, ...]] = [(z, labels)]
    elif wanted == 1:
        tries = [(z,)]
    else:
        tries = [(z, second) for second in seconds] + ([(z,)] if wanted is None or wanted == 0 else [])
    reason = ""
    for given in tries:
        try:
            jax.eval_shape(function, *given)
        except (Exception, SystemExit) as error:  # anyone's function may raise anything
            reason = reason or f"{type(error).__name__}: {_first_line(error)}"
        else:
            return given
    shapes = " and ".join(f"{a.dtype}{list(a.shape)}" for a in tries[0])
    raise UsageError(f"{_name(function)} does not accept {shapes}: {reason}")


def positions(text: str) -> tuple[int, ...]:
    """Positions of arguments from text, as ``0,2``; UsageError if it is none."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--argnums {text!r} is no list of positions: write 0 or 0,2") from error


def _required(function: Callable[..., Any]) -> int | None:
    """How many positional arguments it must have; None if it does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def home(function: Callable[..., Any]) -> tuple[str, str] | None:
    """The module that has the function and the name by which it has it, or None.

    What wraps a function takes over its ``__name__`` and its ``__module__``: ``softcap = jax.custom_vjp(formula)``
    calls itself ``formula``, also where the formula comes from another module; but ``from module import formula`` gets
    the formula without its rule.
    """
    declared, called = getattr(function, "__module__", None) or "", getattr(function, "__name__", None)
    for module in (declared, *list(sys.modules)):
        names = [name for name, value in list(_contents(module).items()) if value is function]
        if names:
            return module, called if called in names else names[0]
    return None


def _contents(module: str) -> dict[str, Any]:
    """What a module that is imported has at its top."""
    return getattr(sys.modules.get(module), "__dict__", {})


def _name(function: Callable[..., Any]) -> str:
    found = home(function)
    return found[1] if found else getattr(function, "__name__", repr(function))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
