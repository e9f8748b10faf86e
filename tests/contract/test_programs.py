"""Every loss as a program of others: exported, serialised and run again; under the modes in which JAX hunts for NaN."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, export
from jax.experimental import checkify

import lossjax
from lossjax import optax as plugin
from lossjax._core.plain import plain_of
from tests.plugin.test_optax import draw
from tests.support.cases import CASES, OF_EACH_FILE, OPTION_CASES
from tests.support.contract import assert_same
from tests.support.draws import Family
from tests.support.quick import quick
from tests.support.transformations import floats, moving

FAMILY = Family("programs", rows=3, classes=4)
PLATFORMS = ("cpu", "tpu", "cuda")
SUBJECTS = {
    case.name: (case.loss, case.argnums, case.draw(FAMILY, np.float32))
    for case in (*CASES, *(c for c in OPTION_CASES if c.name in ("labels, all", "targets, all", "focal, all")))
}
HEAD = np.linspace(-1, 1, 24, dtype=np.float32)


def head(hidden: Array, weight: Array, labels: Array, **options: Any) -> Array:
    return lossjax.linear_softmax_cross_entropy(hidden, weight, labels, **options)


SUBJECTS["head"] = head, (0, 1), (HEAD[:6].reshape(3, 2), HEAD[:8].reshape(2, 4), np.int32([0, 3, 1]))
SUBJECTS["head, blocks"] = functools.partial(head, chunk_size=2, reduction="mean"), *SUBJECTS["head"][1:]


def value_and_slopes(function: Callable[..., Any], argnums: tuple[int, ...], *args: Any) -> tuple[Any, Any]:
    output, pullback = jax.vjp(moving(function, args, argnums), *floats(args, argnums))
    return output, pullback(jnp.ones_like(output))


PLAIN = {case.name for case in OF_EACH_FILE}


def everything(name: str) -> Callable[..., Any]:
    """Value and gradients; and of each file of rules a plain formula, whose gradients are of JAX's making."""
    loss, argnums, _ = SUBJECTS[name]

    def program(*args: Any) -> Any:
        ruled = value_and_slopes(loss, argnums, *args)
        return (ruled, plain_of(loss)(*args)) if name in PLAIN else ruled

    return program


def symbolic(args: tuple[np.ndarray, ...]) -> list[jax.ShapeDtypeStruct]:
    """The rows and the classes may be of any number; other lengths are what they are."""
    scope = export.SymbolicScope()
    letters = {FAMILY.rows: "rows", FAMILY.classes: "classes"}
    shapes = [", ".join(letters.get(size, str(size)) for size in a.shape) for a in args]
    return [
        jax.ShapeDtypeStruct(export.symbolic_shape(s, scope=scope), a.dtype) for s, a in zip(shapes, args, strict=True)
    ]


def again(function: Callable[..., Any], *shapes: Any) -> Callable[..., Any]:
    """The function as another process would have it: lowered for every chip, serialised, and read again."""
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    return export.deserialize(exported.serialize()).call


def some(*fast: str, slow: tuple[str, ...] = ()) -> Any:
    """The names, some of which the fast tier leaves out."""
    return pytest.mark.parametrize("name", [*fast, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)])


AS_OTHERS = (
    "token_log_probs", "softmax_js_divergence", "labels, all", "poly_cross_entropy", "cosine_distance", "focal, all",
    "preference.simpo_loss", "preference.cpo_loss", "multiclass_perceptron_loss", "jeffreys_divergence",
)  # fmt: skip
"""Their steps are those of others: of the logarithm of softmax, KL, targets with all options, and neighbours' in their
files."""
OF_THE_MOST = tuple(name for name in SUBJECTS if name not in AS_OTHERS)


@some(*OF_THE_MOST, slow=AS_OTHERS)
def test_serialised_for_every_chip_and_any_number_of_rows_and_classes(name: str) -> None:
    args = SUBJECTS[name][2]
    again(everything(name), *(args if "head" in name else symbolic(args)))  # the head's sizes have tests of their own


@some(
    "softmax_cross_entropy", "sigmoid_cross_entropy", "head, blocks", slow=("labels, all", "multiclass_sparsemax_loss")
)
def test_what_was_serialised_gives_the_same_numbers(name: str) -> None:
    """Both run one rule; they may differ by the order in which the rows·C products of a sum are added, in float32."""
    args, function = SUBJECTS[name][2], everything(name)
    got = quick(again(function, *(args if "head" in name else symbolic(args))))(*args)
    assert_same(name, got, quick(function)(*args), (16 + args[0].size) * 2.0**29)


@pytest.mark.parametrize("name", plugin.OWN)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_plug_in_is_serialised(name: str) -> None:
    again(functools.partial(value_and_slopes, getattr(plugin, name), (0,)), *draw(name))


STEPS_OF_OTHERS = "softmax_js_divergence", "targets, all", "focal, all", "head", "token_log_probs"


@some(*(name for name in SUBJECTS if name not in STEPS_OF_OTHERS), slow=STEPS_OF_OTHERS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_good_input_makes_no_nan_on_the_way(name: str) -> None:
    """Operation by operation, as ``jax_debug_nans`` looks at them without jit: not even a branch that is not taken."""
    loss, argnums, args = SUBJECTS[name]
    arrays = tuple(map(jnp.asarray, args))
    with jax.debug_nans(True), jax.disable_jit(True):
        value_and_slopes(loss, argnums, *arrays)


def test_a_nan_on_the_way_is_caught() -> None:
    with jax.debug_nans(True), jax.disable_jit(True), pytest.raises(FloatingPointError):
        value_and_slopes(lambda x: jnp.where(x > 0, x, jnp.nan), (0,), jnp.float32([1, 2]))


@some("labels, all", "head, blocks", "student_t_nll", "js_divergence", slow=("targets, all",))
def test_checkify_has_no_false_alarm(name: str) -> None:
    """The checks of NaN, of division by 0, and the user's own; of the losses of most operations."""
    loss, argnums, args = SUBJECTS[name]
    program = functools.partial(value_and_slopes, loss, argnums)
    error, _ = quick(checkify.checkify(program, errors=checkify.float_checks | checkify.user_checks))(*args)
    assert error.get() is None


@some(*OF_THE_MOST, slow=AS_OTHERS)
def test_a_change_of_x64_is_seen_by_what_was_traced_before(name: str) -> None:
    """One function object, in 32 bits, in 64, and in 32 again: what JAX has cached of it is for its own width."""
    loss, argnums, args = SUBJECTS[name]
    program = functools.partial(value_and_slopes, loss, argnums)
    for wide in (False, True, False):
        with jax.enable_x64(wide):
            width = np.float64 if wide else np.float32
            given = [a.astype(width) if a.dtype.kind == "f" else a for a in args]
            output, slopes = jax.eval_shape(program, *given)
            assert {a.dtype for a in (output, *slopes)} == {np.dtype(width)}
