"""The atlas: worst errors over a domain, each with an input that shows it; and what it must not miss or invent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lossjax.optax
from lossjax import numerics
from lossjax.__main__ import main
from lossjax.verify import Atlas, Chart, atlas, exact, ulp

Function = Callable[..., Any]


def chart(function: Function, **options: Any) -> Chart:
    return atlas({"it": function}, **({"points": 64} | options)).charts[0]


PLANTED: dict[str, tuple[Function, str, str]] = {
    "a sum that hides its small term": (lambda x: jnp.log(1 + jnp.exp(-x * x)), "value_units", "value"),
    "a difference of what is nearly equal": (lambda x: jnp.sqrt(x * x + 4) + x, "value_units", "value"),
    "a derivative that is 1 - p of a p near 1": (jax.nn.sigmoid, "gradient_units", "d/d0"),
    "an infinity over an infinity": (lambda x: jnp.exp(x) / (1 + jnp.exp(x)), "lost", "value"),
    "a chain rule of 0 times infinity": (lambda x: jnp.sqrt(x * x) * x, "lost", "d/d0"),
    "the variance of a row far from 0": (lambda z: jnp.mean(z * z) - jnp.mean(z) ** 2, "value_units", "value"),
}
"""Functions that lose their digits, where it is seen, and in which entry."""


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_lost_is_found_with_its_input(name: str) -> None:
    function, where, entry = PLANTED[name]
    domains = {"it": ["row"]} if "row" in name else None
    found = chart(function, domains=domains)
    assert found.ok is False
    peak = getattr(found, where)
    assert peak.entry == entry
    assert peak == found.finding
    arguments = [np.asarray(a, np.float32) for a in peak.arguments]
    wanted = jax.grad(function) if entry == "d/d0" else function
    got = np.asarray(jax.jit(wanted)(*arguments))
    if where == "lost":
        assert not np.isfinite(got)
        assert np.isfinite(peak.want)
    else:
        assert ulp.ulps(got, exact(wanted, 512)(*arguments)) > 100
        assert float(got) == pytest.approx(peak.got, rel=1e-6)
        assert float(exact(wanted, 512)(*arguments)[()].mid()) == pytest.approx(peak.want, rel=1e-9)


RIGHT: dict[str, Function] = {
    "softplus": numerics.softplus,
    "sigmoid": numerics.sigmoid,
    "a value near its zero, as right as its input": lambda x: x - jnp.float32(1.1),
    "a kink, where two derivatives are right": jnp.abs,
    "a square root at its end": jnp.sqrt,
    "an overflow of what no float can hold": jnp.exp,
    "a flush to zero": lambda x: jnp.exp(-x),
}


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm(name: str) -> None:
    found = chart(RIGHT[name])
    assert found.why == ""
    assert found.ok, found


def test_the_worst_is_kept_and_the_search_makes_it_worse() -> None:
    """Near 1 the logarithm of 1 + (x - 1) has few right digits; what is reported is what is there."""
    shifted: Function = lambda x: jnp.log(1 + x)  # noqa: E731
    found = chart(shifted)
    (x,) = found.value.arguments
    error = ulp.ulps(jax.jit(shifted)(np.float32(x)), exact(shifted, 512)(np.float32(x)))
    assert float(error) == found.value.size >= 2.0**23
    assert found.value_units.size > 2.0**22  # an exact 0 for a number that is not 0


def test_an_error_that_no_rounding_of_the_arguments_accounts_for_is_infinite() -> None:
    """Where the truth is 0 and stays 0, as the loss of a row that is right by more than the margin."""
    found = chart(lambda x, y: (x + y) - y - x)
    assert found.value_units.size == found.worst == np.inf
    assert (found.value_units.want, found.lost.size, found.ok) == (0, 0, False)
    assert "| ∞ |" in (one := Atlas((found,))).markdown()
    assert Atlas.from_json(one.to_json()).markdown() == one.markdown()
    by_optax = chart(optax.losses.multiclass_hinge_loss)
    assert by_optax.worst == np.inf
    assert chart(lossjax.optax.multiclass_hinge_loss).worst <= 8


@pytest.mark.parametrize(
    ("function", "domain"),
    [
        (lambda x: jnp.tanh(x), ("real",)),
        (lambda x: jnp.log(x), ("positive",)),
        (lambda p: jnp.log(p) + jnp.log1p(-p), ("unit",)),
        (lambda w, x: w * jnp.log(x), ("real", "positive")),
        (lambda n, x: jax.lax.integer_pow(x, 2) * jnp.arange(5.0)[n], ("order", "real")),
        (lambda value, scale: value / scale, ("real", "positive")),
        (lambda z: jnp.sum(z[:4]) + z[0], ("row",)),
        (lambda z, label: z[label], ("row", "label")),
    ],
)
def test_a_domain_is_found(function: Function, domain: tuple[str, ...]) -> None:
    assert chart(function, points=4).domain == domain


def test_a_function_that_is_an_approximation_is_judged_by_what_is_meant() -> None:
    series: Function = lambda x: x + x**3 / 6  # noqa: E731  # of the hyperbolic sine
    assert chart(series).ok
    found = atlas({"it": series}, references={"it": jnp.sinh}, points=64)
    assert found.charts[0].ok is False


def test_in_sixteen_bits_and_in_float64() -> None:
    naive: Function = lambda x: jnp.log(1 + jnp.exp(x))  # noqa: E731
    assert chart(numerics.softplus, dtype="bfloat16").ok
    assert chart(naive, dtype="bfloat16").ok is False
    assert chart(naive, dtype="float64").value.size > 2.0**50


def test_what_cannot_be_measured_says_why() -> None:
    def refuses(x: Any) -> Any:
        return jax.pure_callback(np.sin, x, x, vmap_method="expand_dims")

    found = atlas({"random": refuses, "of a tree": lambda tree: tree["a"]}, points=4)
    assert [c.ok for c in found.charts] == [None, None]
    assert "pure_callback" in found.charts[0].why
    assert found.charts[1].why == "no arguments were found that it takes"
    assert (found.ok, found.exit_code) == (None, 3)
    assert "Nothing could be measured" in str(found)
    with pytest.raises(ValueError, match="'rows' is no kind of argument; there are real, positive"):
        atlas({"it": jnp.sin}, domains={"it": ["rows"]})
    with pytest.raises(ValueError, match="'sin' is not among the functions: it"):
        atlas({"it": jnp.sin}, only=["sin"])
    with pytest.raises(ValueError, match="points is 0"):
        atlas({"it": jnp.sin}, points=0)
    with pytest.raises(ValueError, match="there is no function"):
        atlas({})
    with pytest.raises(ValueError, match="the errors are those of floats"):
        atlas([jnp.sin], dtype="int32")


@pytest.fixture(scope="module")
def both() -> Atlas:
    return atlas({"wrong": lambda x: jnp.log(1 + jnp.exp(-x * x)), "jax.nn.softplus": jax.nn.softplus}, points=32)


def test_the_table_fits_and_the_worst_comes_first(both: Atlas) -> None:
    text = str(both)
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("wrong") < text.index("softplus")
    assert "1 of 2 functions exceed 8 units" in text
    assert both.exit_code == 1
    rows = both.markdown().splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert "`wrong`" in rows[2]
    assert "lossjax" in rows[0]  # the column of what stands beside
    assert both.charts[1].beside is not None
    assert both.charts[1].beside.ok


def test_the_json_has_this_schema(both: Atlas) -> None:
    found = json.loads(both.to_json())
    assert set(found) == {"dtype", "versions", "ok", "charts"}
    assert found["dtype"] == "float32"
    assert set(found["versions"]) >= {"python", "jax", "jaxlib", "lossjax"}
    peaks = {"value", "gradient", "value_units", "gradient_units", "lost"}
    fields = {"name", "domain", "points", "undecided", "allowed", "why", "beside", "ok"}
    for one in found["charts"]:
        assert set(one) == peaks | fields
        for name in peaks:
            assert one[name] is None or set(one[name]) == {"size", "arguments", "entry", "got", "want"}
    assert found["charts"][0]["value"]["entry"] == "value"
    assert found["charts"][0]["lost"] is None
    assert Atlas.from_json(both.to_json()).to_json() == both.to_json()


# --- the command line ------------------------------------------------------------------------------------------------


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("sys.argv", ["lossjax", "atlas", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    page, found, picture = tmp_path / "page.md", tmp_path / "found.json", tmp_path / "map.svg"
    page.write_text("<!-- atlas of jax.nn -->\n<!-- end of atlas of jax.nn -->\n", encoding="utf-8")
    few = ("--only", "nn.sigmoid", "--only", "softplus", "--points", "32", "--processes", "1")
    files = ("--json", str(found), "--markdown", str(page), "--plot", str(picture))
    assert command("jax.nn", *few, *files, monkeypatch=monkeypatch) == 1
    out, err = capsys.readouterr()
    assert "jax.nn.sigmoid" in out
    assert "1/2  ✗  jax.nn.sigmoid" in err
    assert "2/2  ✓  jax.nn.softplus" in err
    assert "| `jax.nn.sigmoid` |" in page.read_text(encoding="utf-8")
    assert len(json.loads(found.read_text(encoding="utf-8"))["charts"]) == 2
    assert picture.read_text(encoding="utf-8").startswith("<?xml")
    assert "lossjax" in picture.with_suffix(".csv").read_text(encoding="utf-8")
    assert command("lossjax", "--only", "squared_error", "--points", "16", monkeypatch=monkeypatch) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no.such.module",), "importing no.such.module failed: ModuleNotFoundError"),
        (("jax.nn", "--only", "nothing"), "jax.nn has no function nothing"),
        (("jax.nn", "--dtype", "int8"), "'int8' is not one of float32"),
        (("jax.nn", "--json", "no/such/folder/x.json"), "does not exist"),
        (("jax.nn", "--plot", "map.bmp"), "wanted one of .png"),
        (("jax.nn", "--points", "0"), "points"),
    ],
)
def test_usage_errors_exit_2(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert command(*arguments, monkeypatch=monkeypatch) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words in err
    assert "Traceback" not in err
