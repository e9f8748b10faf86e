"""One subject of the survey, and how arguments are found for a function of which only the name is known."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UNIT = np.array([0.31, 0.72, 0.15, 0.58])
OTHER = np.array([0.43, 0.12, 0.87, 0.66])
SQUARE = np.array([[2.0, 0.3, -0.4], [0.1, 1.5, 0.2], [-0.3, 0.4, 1.2]])
POSITIVE = SQUARE @ SQUARE.T
TALL = np.array([[0.3, 1.2], [-0.7, 0.4], [1.1, 0.9]])
IMAGE = np.linspace(-1, 1, 2 * 5 * 5 * 4).reshape(2, 5, 5, 4) ** 3 + 0.1
WHOLE = np.array([1, 0, 2, 3])

BY_NAME: dict[str, tuple[Any, ...]] = {
    "key": (jax.random.key(7),), "rng": (jax.random.key(7),), "seed": (jax.random.key(7),),
    "shape": ((2, 3),), "sizes": ((2, 3),), "new_sizes": ((2, 2),), "newshape": ((2, 2),), "shapes": ((2, 2),),
    "axis": (0,), "axes": ((0,),), "dimension": (0,), "axis1": (0,), "axis2": (1,), "source": (0,), "destination": (1,),
    "dimensions": ((0,),), "permutation": ((1, 0),),
    "n": (3,), "N": (3,), "m": (4,), "M": (4,), "num": (3,), "k": (2,), "order": (1,), "deg": (2,), "d": (2,),
    "num_classes": (4,), "num_segments": (4,), "repeats": (2,), "reps": (2,), "pad_width": (1,), "shift": (1,),
    "indices_or_sections": (2,), "index": (1,), "start_index": (1,), "limit_index": (3,), "slice_size": (2,),
    "dtype": ("float64",), "new_dtype": ("float64",), "func": (jnp.sin, jnp.add), "fun": (jnp.sin,), "f": (jnp.sin,),
    "subscripts": ("i,i->i", "ij,jk->ik"), "decay": (0.9,), "decay_rate": (0.9,), "learning_rate": (0.1,),
    "num_microbatches": (2,), "every_k_schedule": (2,), "transition_steps": (5,), "decay_steps": (10,),
    "steps": (5,), "warmup_steps": (3,), "peak_value": (0.5,), "init_value": (0.1,), "end_value": (0.01,),
    "step_size": (0.1,), "power": (2.0,), "max_norm": (0.5,), "max_delta": (0.5,), "threshold": (0.5,),
    "clipping": (0.5,),
}  # fmt: skip
"""What a required parameter of this name is given."""

ANY: tuple[Any, ...] = (UNIT, POSITIVE, SQUARE, OTHER, 0.7, 2, WHOLE, TALL, IMAGE, [UNIT, OTHER], UNIT > 0.5)
"""What any other parameter is given, the likeliest first."""


class Subject(NamedTuple):
    """A function of arrays, and arrays for it."""

    library: str
    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]


def numeric(result: Any) -> list[Any]:
    """The leaves of a result that are numbers."""
    leaves = [x for x in jax.tree.leaves(result) if isinstance(x, jax.Array | np.ndarray)]
    return [x for x in leaves if not jnp.issubdtype(x.dtype, jax.dtypes.extended)]


def is_float(x: Any) -> bool:
    """Whether an argument is differentiated."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def candidates(function: Callable[..., Any], most: int = 60) -> Iterator[tuple[Any, ...]]:
    """Arguments that the function may accept, the likeliest first."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    choices = [BY_NAME.get(p.name, ANY) for p in required]
    open_ended = any(p.kind is p.VAR_POSITIONAL for p in parameters) or not parameters
    if open_ended:
        yield (UNIT,)
        yield UNIT, OTHER
        yield POSITIVE, SQUARE
    alike = [tuple(c[i] if len(c) == len(ANY) else c[0] for c in choices) for i in range(len(ANY))]
    swapped = [tuple(OTHER if x is UNIT and i == 1 else x for i, x in enumerate(row)) for row in alike]
    mixed = itertools.product(*(c[:7] for c in choices))
    yield from itertools.islice(itertools.chain(swapped, mixed), most)


def bound(function: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function of the arrays among its arguments alone, and these; all else is a constant of it."""
    places = [i for i, x in enumerate(given) if isinstance(x, np.ndarray) or (isinstance(x, list) and x)]

    def of_arrays(*arrays: Any) -> Any:
        whole = list(given)
        for place, array in zip(places, arrays, strict=True):
            whole[place] = array
        return function(*whole)

    return of_arrays, tuple(given[i] for i in places)


def accepted(library: str, name: str, function: Callable[..., Any], given: tuple[Any, ...]) -> Subject | None:
    """The subject with these arguments; None if the function does not give numbers for them under jit."""
    of_arrays, args = bound(function, given)
    try:
        shapes = jax.tree.leaves(jax.eval_shape(of_arrays, *args))
        if any(hasattr(s, "dtype") and not jnp.issubdtype(s.dtype, jax.dtypes.extended) for s in shapes):
            return Subject(library, name, of_arrays, args)
    except Exception:
        return None
    return None


def found(library: str, name: str, function: Callable[..., Any]) -> Subject | None:
    """The function with the first arguments that it accepts."""
    tried = (accepted(library, name, function, given) for given in candidates(function))
    return next((subject for subject in tried if subject is not None), None)
