"""The functions of a module, and what is known of some: the kinds of their arguments, and what they are meant to be."""

import importlib
import importlib.metadata
import inspect
import platform
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import lossjax
from lossjax import numerics
from lossjax import optax as ours
from lossjax.verify.samples import bound, loss_of, names
from lossjax.verify.signatures import SIGNATURES


class Known(NamedTuple):
    """What is known of a function by its name."""

    words: tuple[str, ...] | None = None
    """The kinds of its arguments."""
    reference: Callable[..., Any] | None = None
    """What it is meant to be, where its own formula is an approximation."""
    beside: Callable[..., Any] | None = None
    """The function of lossjax that computes the same."""


def _log_ndtr(x: Any) -> Any:
    return jnp.log(jax.lax.erfc(-x / jnp.sqrt(jnp.asarray(2, x.dtype))) / 2)


_LABELLED, _TARGETS, _TWO_ROWS, _TWO = ("row", "label"), ("row", "distribution"), ("row", "row"), ("real", "real")

_ROWS: Mapping[str, tuple[str, ...]] = {
    "logsumexp": ("row",), "logmeanexp": ("row",),
    "softmax": ("row",), "log_softmax": ("row",), "standardize": ("row",), "glu": ("row",),
    "softmax_cross_entropy": _TARGETS, "safe_softmax_cross_entropy": _TARGETS, "poly_loss_cross_entropy": _TARGETS,
    "softmax_cross_entropy_with_integer_labels": _LABELLED, "sigmoid_binary_cross_entropy": ("real", "unit"),
    "sigmoid_cross_entropy": ("real", "unit"), "sigmoid_focal_loss": ("real", "bit"), "hinge_loss": ("real", "sign"),
    "perceptron_loss": ("real", "sign"), "sparsemax_loss": ("real", "bit"), "multiclass_hinge_loss": _LABELLED,
    "multiclass_perceptron_loss": _LABELLED, "multiclass_sparsemax_loss": _LABELLED, "log_cosh": _TWO,
    "huber_loss": _TWO, "l2_loss": _TWO, "squared_error": _TWO, "cosine_similarity": _TWO_ROWS,
    "cosine_distance": _TWO_ROWS, "kl_divergence": ("log distribution", "distribution"),
    "convex_kl_divergence": ("log distribution", "distribution"),
    "generalized_kl_divergence": ("log distribution", "distribution"),
    "kl_divergence_with_log_targets": ("log distribution", "log distribution"), "ranking_softmax_loss": _TARGETS,
    "triplet_margin_loss": ("row", "row", "row"), "dice_loss": _TARGETS, "binary_dice_loss": ("row", "distribution"),
    "multiclass_generalized_dice_loss": _TARGETS, "smooth_labels": ("distribution", "unit"),
}  # fmt: skip
"""Of losses and of functions of rows, by the last word of their names."""
_PLACES = ("jax.nn", "optax", "lossjax.optax")
"""The libraries whose names these are."""
_NOT_OF_POINTS = ("jax.nn.dot_product_attention", "jax.nn.get_scaled_dot_general_config")
"""Functions of tensors, and those that compute nothing."""
_BY_NAME: Mapping[str, Known] = {
    "jax.nn.softplus": Known(("real",), beside=numerics.softplus),
    "jax.nn.sigmoid": Known(("real",), beside=numerics.sigmoid),
    "jax.nn.softmax": Known(("row",), beside=lossjax.softmax),
    "jax.nn.log_softmax": Known(("row",), beside=lossjax.log_softmax),
    "jax.nn.logsumexp": Known(("row",), beside=lossjax.logsumexp),
    "jax.scipy.special.expit": Known(("real",), beside=numerics.sigmoid),
    "jax.scipy.special.softmax": Known(("row",), beside=lossjax.softmax),
    "jax.scipy.special.log_softmax": Known(("row",), beside=lossjax.log_softmax),
    "jax.scipy.special.logsumexp": Known(("row",), beside=lossjax.logsumexp),
    "jax.scipy.special.xlogy": Known(("positive", "positive"), beside=numerics.xlogy),
    "jax.scipy.special.rel_entr": Known(("positive", "positive")),
    "jax.scipy.special.kl_div": Known(("positive", "positive")),
    "jax.scipy.special.polygamma": Known(("order", "positive")),
    "jax.scipy.special.zeta": Known(("positive", "positive")),
    "jax.scipy.special.log_ndtr": Known(("real",), _log_ndtr),
    "jax.scipy.special.erfcx": Known(("real",), lambda x: jnp.exp(x * x) * jax.lax.erfc(x)),
}
"""Of others."""
_KINDS = {
    "labels": "label", "tokens": "label", "logits": "row", "other logits": "row", "distributions": "distribution",
    "probabilities": "distribution", "other probabilities": "distribution", "scores": "real", "vectors": "row",
    "fractions": "unit",
    "signs": "sign", "log rates": "real", "counts": "count", "binary labels": "binary label", "widths": "positive",
    "levels": "unit", "log scales": "log scale", "degrees of freedom": "positive", "temperatures": "unit",
    "log likelihoods": "log probability", "other log likelihoods": "log probability", "margins": "positive",
}  # fmt: skip
"""The atlas's words for the kinds of lossjax's signatures."""


def known(name: str) -> Known:
    """What is known of the function of this name."""
    place, _, last = name.rpartition(".")
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.removeprefix("lossjax.") in names() and name.startswith("lossjax."):
        return Known(tuple(_KINDS[kind] for kind in SIGNATURES[name.removeprefix("lossjax.")].kinds))
    if last in _ROWS and any(place == p or place.startswith(f"{p}.") for p in _PLACES):
        return Known(
            _ROWS[last], beside=getattr(ours, last) if place.startswith("optax") and last in ours.OWN else None
        )
    return Known()


def _losses() -> dict[str, Callable[..., Any]]:
    """Lossjax's own losses of points and rows, with those options that are numbers as further arguments."""
    taken = {n: SIGNATURES[n] for n in names() if all(kind in _KINDS for kind in SIGNATURES[n].kinds)}
    return {f"lossjax.{name}": bound(loss_of(name), *signature.options) for name, signature in taken.items()}


def functions_of(functions: Any) -> dict[str, Callable[..., Any]]:
    """The functions that :func:`atlas` measures, by name.

    Args:
      functions: a module, or its name: its public functions, those of its modules of one distribution each, and the
        densities of its classes that have them. Or functions, or functions by name, which are returned as they are.

    Returns:
      Functions by their full names.

    Raises:
      ValueError: a module that cannot be imported, or something that cannot be called.

    Example:
      >>> from lossjax.verify import functions_of
      >>> [name for name in functions_of("optax.losses") if "cosine" in name]
      ['optax.losses.cosine_distance', 'optax.losses.cosine_similarity']
    """
    if isinstance(functions, str):
        functions = module(functions)
    if functions is lossjax:
        return _losses()
    if isinstance(functions, types.ModuleType):
        return dict(_public(functions))
    if not isinstance(functions, Mapping):
        functions = {getattr(f, "__name__", type(f).__name__): f for f in _each(functions)}
    if wrong := [name for name, function in functions.items() if not callable(function)]:
        raise ValueError(f"{wrong[0]!r} cannot be called")
    return dict(functions)


def _each(functions: Any) -> Iterable[Any]:
    return functions if isinstance(functions, Iterable) else (functions,)


def module(name: str) -> types.ModuleType:
    """The module of this name.

    Raises:
      ValueError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module may raise anything while it is imported
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ValueError(f"importing {name} failed: {type(error).__name__}: {first}") from error


def _public(of: types.ModuleType) -> Iterable[tuple[str, Callable[..., Any]]]:
    """Its functions, those of its modules of one distribution each, and the densities of its distributions."""
    listed = vars(of).get("__all__") or [n for n in dir(of) if not n.startswith("_")]
    for name in sorted(listed):
        found = getattr(of, name, None)
        full = f"{of.__name__}.{name}"
        if isinstance(found, types.ModuleType) and of.__name__.endswith("stats") and found.__name__ == full:
            yield from _public(found)
        elif isinstance(found, type):
            yield from _densities(full, found)
        elif (
            full not in _NOT_OF_POINTS
            and callable(found)
            and not inspect.ismodule(found)
            and "typing" not in type(found).__module__
        ):
            yield full, found


_DENSITIES = ("log_prob", "log_cdf", "log_survival_function", "entropy")


def _densities(full: str, kind: Any) -> Iterable[tuple[str, Callable[..., Any]]]:
    """Of a class with a log-density: functions of a point and of the parameters, as many as it requires."""
    if not hasattr(kind, "log_prob") or inspect.isabstract(kind):
        return
    parameters = list(inspect.signature(kind).parameters.values())
    required = [p.name for p in parameters if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD]
    for part in (part for part in _DENSITIES if hasattr(kind, part)):

        def of_numbers(*numbers: Any, part: str = part) -> Any:
            if part == "entropy":
                return kind(*numbers).entropy()
            return getattr(kind(*numbers[1:]), part)(numbers[0])

        names = required if part == "entropy" else ["value", *required]
        one = inspect.Parameter.POSITIONAL_ONLY
        of_numbers.__signature__ = inspect.Signature([inspect.Parameter(n, one) for n in names])
        if names:
            yield f"{full}.{part}", of_numbers


def versions(functions: Iterable[Callable[..., Any]]) -> dict[str, str]:
    """Of Python, JAX, lossjax, and of the packages that the functions come from."""
    roots = {str(getattr(f, "__module__", None) or "").partition(".")[0] for f in functions}
    found = {"python": platform.python_version()}
    for name in sorted({"jax", "jaxlib", "lossjax", *roots}):
        try:
            found[name] = importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
    return found
