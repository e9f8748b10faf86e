"""A wrong gradient comes with its likeliest cause, each shown on a planted fault; else nothing is guessed."""

import io
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flint import arb
from rich.console import Console

from lossjax.verify import check, subject
from lossjax.verify._check.hints import hint
from lossjax.verify.ulp import balls


def ruled(formula, rule):
    """The formula with ``rule(saved arguments, cotangent)`` for its backward pass."""
    made = jax.custom_vjp(formula)
    made.defvjp(lambda *args: (formula(*args), args), lambda args, g: rule(*args, g))
    return made


def _sum_of_cubes(x):
    return jnp.sum(x**3, axis=-1)


def _mean_of_squares(x):
    return jnp.mean(x**2, axis=-1)


def _product(a, b):
    return a @ b


def _huber(x):
    size = jnp.abs(x)
    return jnp.where(size <= 1, 0.5 * x**2, size - 0.5)


def _biased(x, b):
    return jnp.sum(jnp.sin(x + jnp.broadcast_to(b, x.shape)))


def _labelled(z, y):
    return jax.nn.logsumexp(z, axis=-1) - jnp.take_along_axis(z, y[:, None], axis=-1)[:, 0]


def _next_label(z, y, g):
    return (g[:, None] * (jax.nn.softmax(z) - jax.nn.one_hot(y + 1, z.shape[-1], dtype=z.dtype)), None)


X = np.float32(np.random.default_rng(0).normal(size=(3, 4)))
SQUARE = np.float32(np.random.default_rng(1).normal(size=(3, 3)))
FAULTS = {
    "constant": (ruled(_sum_of_cubes, lambda x, g: (0 * x,)), (X,), "it is 0 everywhere"),
    "factor": (ruled(_sum_of_cubes, lambda x, g: (1.5 * g[:, None] * x**2,)), (X,), "0.5 times the right one"),
    "sign": (ruled(_sum_of_cubes, lambda x, g: (-3 * g[:, None] * x**2,)), (X,), "every entry has the wrong sign"),
    "mean": (ruled(_mean_of_squares, lambda x, g: (2 * g[:, None] * x,)), (X,), "a sum where a mean is meant"),
    "transposed": (
        ruled(_product, lambda a, b, g: ((g @ b.T).T, a.T @ g)), (SQUARE, SQUARE), "it is the transpose",
    ),
    "no sum over a broadcast axis": (
        ruled(_biased, lambda x, b, g: (g * jnp.cos(x + b[None]), g * jnp.cos(x + b[None])[0])), (X, X[0]),
        "is a sum over that axis missing?",
    ),
    "a mean over a broadcast axis": (
        ruled(_biased, lambda x, b, g: (g * jnp.cos(x + b[None]), g * jnp.cos(x + b[None]).mean(0))), (X, X[0]),
        "has an axis of 3 entries: is a sum over a broadcast axis missing",
    ),
    "a label off by one": (
        ruled(_labelled, _next_label), (X, np.int32([0, 1, 2])), "is a label, or an index, off by one?",
    ),
    "off by one": (
        ruled(_sum_of_cubes, lambda x, g: (3 * g[:, None] * jnp.roll(x, 1, -1) ** 2,)), (X,), "by one along axis 1",
    ),
    "branch": (
        ruled(_huber, lambda x, g: (g * jnp.where(jnp.abs(x) <= 1, x, -jnp.sign(x)),)), (3 * X,), "one branch of the",
    ),
    "mask": (
        ruled(lambda x: jnp.where(x > 0, x**2, 0), lambda x, g: (2 * g * x,)), (X,), "exactly where it should be 0",
    ),
    "a mask of its own": (
        ruled(lambda x: x**2, lambda x, g: (2 * g * jnp.where(x > 0, x, 0),)), (X,), "does a mask hide too much?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_told(name):
    loss, args, told = FAULTS[name]
    found = check(loss, *args, checks="rule")
    assert found.right is False
    assert told in found.failures[0], found.failures[0]


@pytest.mark.parametrize("name", ["factor", "transposed", "branch"])
def test_the_program_shows_the_fault(name):
    """It is executed as it is printed: the gradient that JAX gives there is the one that was got."""
    loss, args, _ = FAULTS[name]
    (row,) = (row for row in check(loss, *args, checks="rule").rows if row.program)
    code = row.program
    shown = []
    exec(code.replace("print(", "shown.append("), {"fn": loss, "shown": shown})
    told = re.search(r"# argument (\d) at \[(.*)\]: got (\S+),", code)
    assert told is not None
    argument, place, got = told.groups()
    found = shown[0][int(argument)][tuple(map(int, place.split(",")))]
    assert abs(float(found) - float(got)) < 1e-5 * abs(float(got))


CAPPED = """
import jax, jax.numpy as jnp

def formula(z):
    return 5 * jnp.tanh(z / 5)

softcap = jax.custom_vjp(formula)
softcap.defvjp(lambda z: (formula(z), z), lambda z, g: (g,))
"""


@pytest.mark.parametrize("apart", [False, True], ids=["one module", "formula imported"])
def test_a_function_is_called_as_its_module_calls_it(apart, tmp_path, monkeypatch):
    """A ``custom_vjp`` takes over the name of its formula, and the program that imports that shows no fault; and it
    takes over the formula's module, which does not have it.
    """
    formula, rule = CAPPED.split("softcap =", 1)
    names = "import jax\nfrom formula_for_a_test import formula\n" if apart else formula
    (tmp_path / "formula_for_a_test.py").write_text(formula, encoding="utf-8")
    (tmp_path / "capped_for_a_test.py").write_text(f"{names}softcap ={rule}", encoding="utf-8")
    for module in ("formula_for_a_test", "capped_for_a_test"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    softcap = subject.load("capped_for_a_test:softcap")
    assert softcap.__name__ == "formula"
    found = check(softcap, X[0], checks="rule")
    assert found.name == "softcap"
    (row,) = (row for row in found.rows if row.program)
    assert "from capped_for_a_test import softcap" in row.program
    shown = []
    exec(row.program.replace("print(", "shown.append("), {"shown": shown})
    told = re.search(r"# argument 0 at \[(.*)\]: got (\S+),", row.program)
    assert told is not None
    assert float(shown[0][0][tuple(map(int, told[1].split(",")))]) == pytest.approx(float(told[2]), rel=1e-5)


def test_it_is_smaller_than_the_example():
    """One row in place of three, and numbers of one digit."""
    loss, args, _ = FAULTS["factor"]
    (row,) = (row for row in check(loss, *args, checks="rule").rows if row.program)
    assert "jnp.array([[1.0, 1.0, 1.0, 1.0]], 'float32')" in row.program


def test_a_long_program_is_not_cut_off():
    """As it is printed on a terminal of 80 columns it can be copied and run."""
    wide = np.float32(np.random.default_rng(2).normal(size=(1, 30)))
    found = check(FAULTS["sign"][0], wide, checks="rule")
    (row,) = (row for row in found.rows if row.program)
    printed = io.StringIO()
    Console(width=80, file=printed).print(found)
    assert row.program in printed.getvalue()
    exec(row.program, {"fn": FAULTS["sign"][0]})


def test_what_was_saved_from_an_earlier_call_is_told():
    random = np.random.default_rng(0)
    first, second = (balls(random.normal(size=3)) for _ in range(2))
    assert "saved from an earlier call" in hint(first, second, [first])


def test_nothing_is_guessed():
    random = np.random.default_rng(0)
    got, want = (balls(random.normal(size=(3, 4))) for _ in range(2))
    assert hint(got, want, [balls(random.normal(size=(3, 4)))]) == ""
    assert hint(np.array([arb("nan")], object), balls([1.0])) == ""
    assert hint(balls([1.0, 2.0]), balls([0.0, 0.0])) == ""
    assert hint(balls([1.000001, 2.000002]), balls([1.0, 2.0])) == ""  # a factor of 1 explains nothing
