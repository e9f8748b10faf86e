"""The reports for maintainers say what their lines print, and what is true."""

import contextlib
import importlib.metadata
import io
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lossjax.verify import exact

REPORTS = Path(__file__).resolve().parents[2] / "docs" / "upstream"
ELSEWHERE = {"tokamax_padding": "tokamax", "e3nn_jax_dot": "e3nn_jax", "ott_norm": "ott"}
"""Reports on libraries that no extra installs."""
PAGES = sorted(path.stem for path in REPORTS.glob("*_*.md"))


def parts(name: str) -> dict[str, str]:
    """The program, what it prints, and the rest."""
    text = (REPORTS / f"{name}.md").read_text(encoding="utf-8")
    found = re.findall(r"```(python|text)\n(.*?)```", text, re.S)
    assert [kind for kind, _ in found] == ["python", "text"], name
    return dict(found) | {"rest": text}


@pytest.mark.parametrize("name", PAGES)
def test_the_program_prints_what_stands_there(name: str) -> None:
    report = parts(name)
    for heading in ("Versions:", "**What is true:**", "**Likely cause:**", "**Remedy:**"):
        assert heading in report["rest"]
    if name in ELSEWHERE:
        pytest.skip(f"{ELSEWHERE[name]} is in no extra")
    for library, version in re.findall(r"(optax) ([\d.]+\d)", report["rest"].split("```")[0]):
        if importlib.metadata.version(library) != version:
            pytest.skip(f"the report is on {library} {version}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), jax.numpy_dtype_promotion("standard"), np.errstate(all="ignore"):
        exec(report["python"], {})
    assert printed.getvalue() == report["text"]


def softmax_at_zero(z: jax.Array) -> jax.Array:
    return jax.nn.log_softmax(z)[0]


TRUTHS = {
    "jax_gelu": (jax.nn.gelu, ([-4.0, -5.0, -6.0],)),
    "jax_squareplus": (jax.nn.squareplus, ([-10.0, -1e3, -1e4],)),
    "jax_soft_sign": (jax.vmap(jax.grad(jax.nn.soft_sign)), ([1e4, 1e6, 1e8],)),
    "jax_log_softmax": (jax.grad(softmax_at_zero), ([20.0, 0.0, 0.0],)),
    "jax_logmeanexp": (jax.nn.logmeanexp, ([-0.002, -0.002, 0.006, -0.002],)),
    "optax_log_cosh": (optax.losses.log_cosh, ([1e-4, 1e-3, 1e-2, 0.1],)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_the_truth_is_what_stands_there(name: str) -> None:
    """Every number of the exact result is in the sentence, with as many digits as it is given there."""
    function, given = TRUTHS[name]
    with jax.numpy_dtype_promotion("standard"):
        truth = np.ravel(exact(function, 512)(*(jnp.array(one) for one in given)))
    sentence = parts(name)["rest"].partition("**What is true:**")[2].partition("\n\n")[0].replace("−", "-")
    said = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", sentence)]
    for one in truth:
        value = float(one.mid())
        assert min(abs(value - number) / abs(value) for number in said) < 1e-5, value


def test_every_report_is_listed() -> None:
    listed = re.findall(r"\]\((\w+_\w+)\.md\)", (REPORTS / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == PAGES
    assert len(PAGES) == 11
    for name in PAGES:
        title = parts(name)["rest"].splitlines()[0].removeprefix("# ")
        assert f"[{title}]({name}.md)" in (REPORTS / "README.md").read_text(encoding="utf-8")
