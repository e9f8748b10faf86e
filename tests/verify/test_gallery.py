"""Published wrong gradients: exact arithmetic and the checker each tell them from their right twins.

``docs/wrong_gradients.md`` tells their stories; what it quotes and measures is held to the gallery here.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lossjax.verify import ulp
from lossjax.verify._check import Certificate, check
from lossjax.verify._exact import exact
from tests.support.gallery import ENTRIES, Entry
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "wrong_gradients.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)$(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))

entries = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def argnums(entry: Entry) -> tuple[int, ...]:
    return entry.argnums if isinstance(entry.argnums, tuple) else (entry.argnums,)


def held(entry: Entry, function: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """The function of its differentiated arguments, the others fixed."""
    return lambda *floats: function(*(dict(enumerate(args)) | dict(zip(argnums(entry), floats, strict=True))).values())


def pulled_back(entry: Entry, function: Callable[..., Any]) -> Callable[..., Any]:
    """Its gradients, for cotangents from 0.5 to 2, no two alike; of a function wrong at second order, its Hessian."""
    if entry.caught_by == "modes":
        return lambda z, *others: (jax.hessian(lambda z: jnp.sum(function(z, *others)))(z),)

    def program(*args):
        value, pullback = jax.vjp(held(entry, function, args), *(args[i] for i in argnums(entry)))
        return pullback(jax.tree.map(lambda x: jnp.linspace(0.5, 2, x.size, dtype=x.dtype).reshape(x.shape), value))

    return program


def meant(entry: Entry) -> Callable[..., Any]:
    """The formula whose derivative is wanted, free of any custom rule."""
    return entry.reference or getattr(entry.right, "fun", entry.right)


@functools.cache
def truth(entry: Entry) -> tuple[ulp.Balls, ...]:
    return exact(pulled_back(entry, meant(entry)))(*entry.args)


def distance(found: tuple[ulp.Balls, ...], wanted: tuple[ulp.Balls, ...]) -> float:
    """The largest difference of two tuples of arrays of balls, 0 where they overlap."""
    pairs = [p for a, b in zip(found, wanted, strict=True) for p in zip(a.ravel(), b.ravel(), strict=True)]
    return max(0.0 if a.overlaps(b) else float((a - b).abs_upper()) for a, b in pairs)


def roundoffs(entry: Entry, function: Callable[..., Any]) -> float:
    """The largest error of its float gradients, in units of roundoff."""
    pairs = zip(pulled_back(entry, function)(*entry.args), truth(entry), strict=True)
    return max(float(np.max(ulp.in_roundoffs(found, wanted))) for found, wanted in pairs)


@entries
def test_exact_arithmetic_tells_the_twins_apart(entry: Entry) -> None:
    """Without the checker: a wrong rule differs from the derivative, a wrong rounding only in floats."""
    wrong, right = (
        distance(exact(pulled_back(entry, f))(*entry.args), truth(entry)) for f in (entry.wrong, entry.right)
    )
    assert right < 1e-60
    if entry.caught_by == "gradient":
        assert wrong < 1e-60
        assert not roundoffs(entry, entry.wrong) < 1e7
        assert roundoffs(entry, entry.right) < 64
    else:
        assert wrong > 5e-5


@functools.cache
def certificate(entry: Entry) -> Certificate:
    return check(entry.wrong, *entry.args, argnums=entry.argnums, reference=entry.reference, checks=(entry.caught_by,))


@entries
def test_the_checker_rejects_the_wrong_twin(entry: Entry) -> None:
    found = certificate(entry)
    assert not found.ok
    assert any(row.ok is False and row.name.startswith(entry.caught_by) for row in found.rows), str(found)
    assert found.failures[0].startswith(entry.caught_by)


@entries
def test_the_checker_passes_the_right_twin(entry: Entry) -> None:
    found = check(
        entry.right, *entry.args, argnums=entry.argnums, reference=entry.reference,
        checks=tuple(dict.fromkeys(("rule", "cotangent", entry.caught_by))),
    )  # fmt: skip
    assert found.ok, str(found)


@pytest.mark.parametrize("name", ["softcap-that-caps-nothing", "softcap-of-padding"])
def test_without_a_reference_the_true_derivative_of_a_wrong_value_passes(name: str) -> None:
    """A limit of the checker, which the document names."""
    (entry,) = (entry for entry in ENTRIES if entry.name == name)
    assert check(entry.wrong, *entry.args, checks=("rule", "cotangent")).ok


# --- JAX's own checker ---------------------------------------------------------------------------------------------


def finite_differences_accept(entry: Entry, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """The verdict of JAX's check_grads in reverse mode, with a step that suits float32."""
    floats = tuple(args[i] for i in argnums(entry))
    try:
        check_grads(held(entry, function, args), floats, order=1, modes=["rev"], eps=1e-2)
    except AssertionError:
        return False
    return True


def mean(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: sum(jnp.mean(output) for output in jax.tree.leaves(function(*args)))


def thousand_rows(entry: Entry) -> tuple[Any, ...]:
    """The arguments, with those of one row repeated for each row."""
    rows = len(entry.args[0])
    return tuple(np.resize(a, (1000, *a.shape[1:])) if a.ndim and len(a) == rows else a for a in entry.args)


@functools.cache
def accepted(entry: Entry) -> tuple[bool, bool]:
    """Whether check_grads accepts the wrong twin: as given, and as the mean over a thousand rows."""
    return (
        finite_differences_accept(entry, entry.wrong, entry.args),
        finite_differences_accept(entry, mean(entry.wrong), thousand_rows(entry)),
    )


@entries
def test_finite_differences_accept_the_right_twin(entry: Entry) -> None:
    assert finite_differences_accept(entry, entry.right, entry.args)


@pytest.mark.slow
@entries
def test_finite_differences_accept_the_mean_of_the_right_twin(entry: Entry) -> None:
    """A thousandth of a gradient is within the tolerance of any other: these accept most wrong twins too."""
    assert finite_differences_accept(entry, mean(entry.right), thousand_rows(entry))


def test_finite_differences_accept_three_times_the_tangent_of_a_thousand_losses() -> None:
    cube = jax.custom_jvp(lambda x: x**3)
    cube.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * (3 * primals[0] ** 2 * tangents[0])))
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    check_grads(cube, (x,), order=1, modes=["fwd"])
    with pytest.raises(AssertionError):
        check_grads(cube, (x[:10],), order=1, modes=["fwd"])


# --- the document --------------------------------------------------------------------------------------------------


def summary(entry: Entry) -> str:
    """The entry's line of the document's table."""
    found = pulled_back(entry, entry.wrong)(*entry.args)
    wanted = [np.array([float(t) for t in balls.ravel()]).reshape(balls.shape) for balls in truth(entry)]
    errors = [abs(np.asarray(a, np.float64) - b) for a, b in zip(found, wanted, strict=True)]
    worst = max(range(len(errors)), key=lambda i: np.inf if np.isnan(errors[i]).any() else np.max(errors[i]))
    at = np.unravel_index(np.argmax(errors[worst]), errors[worst].shape)
    verdicts = " | ".join("accepts" if yes else "rejects" for yes in accepted(entry))
    got, want = np.asarray(found[worst])[at], wanted[worst][at]
    return f"| `{entry.name}` | {entry.where} | {got:.2g} | {want:.2g} | `{entry.caught_by}` | {verdicts} |"


def test_the_document_has_a_section_for_each_entry() -> None:
    assert list(SECTIONS) == [entry.name for entry in ENTRIES]


@entries
def test_the_document_measures_as_we_do(entry: Entry) -> None:
    assert summary(entry) in DOCUMENT


def test_the_document_counts_right() -> None:
    given, batched = (sum(accepted(entry)[i] for entry in ENTRIES) for i in (0, 1))
    text = " ".join(DOCUMENT.split())
    assert f"Of the {len(ENTRIES)} wrong gradients it accepts {given} as given" in text
    assert f"and {batched} as the mean over a thousand rows" in text


def test_the_document_quotes_the_gallery() -> None:
    gallery = (ROOT / "tests/support/gallery.py").read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        quotes = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        assert quotes, name
        for quote in quotes:
            assert quote in gallery, quote
        assert any("wrong" in quote for quote in quotes), name


@entries
def test_the_document_prints_what_the_checker_prints(entry: Entry) -> None:
    line = re.split(r" \((?:inputs|allowed|\d+ of)", certificate(entry).failures[0])[0]
    assert f"```text\n{line}\n```" in SECTIONS[entry.name], line
