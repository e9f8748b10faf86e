"""At run time the options of every public function are in its signature, in its docstring and in its errors."""

import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any, Unpack, get_type_hints

import pytest

import lossjax
from lossjax._core.elementwise import EntryOptions
from lossjax._core.options import options_of, with_options
from lossjax._softmax.classes import FunctionOptions
from lossjax._softmax.measures import InformationOptions, LogitMeasureOptions
from lossjax._softmax.options import SoftmaxOptions
from lossjax.losses.linear_head import HeadOptions
from tests.support.paths import ROOT

FUNCTIONS = {name: f for name in lossjax.__all__ if inspect.isfunction(f := getattr(lossjax, name))}
LOSSES = {name: f for name, f in FUNCTIONS.items() if hasattr(f, "plain")}
VAGUE = re.compile(r"\bas there\b|\blikewise\b|\bas of the\b|\bthe same\b|\bnone\b(?!\")")
"""References without a noun, which a reader of one page cannot follow ("none" is fine as the name of a reduction)."""


def arguments(docstring: str) -> dict[str, str]:
    """The names that ``Args:`` describes, with their descriptions."""
    text = inspect.cleandoc(docstring).split("Args:\n")[1].split("\n\n")[0]
    return {m[1]: " ".join(m[2].split()) for m in re.finditer(r"^  (\S+): (.*\n?(?:    .*\n?)*)", text, re.M)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_docstring_describes_every_parameter(name: str) -> None:
    function = FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    described = {name.lstrip("*"): text for name, text in arguments(function.__doc__ or "").items()}
    assert set(described) == set(parameters)
    for parameter, text in described.items():
        assert not VAGUE.search(text), f"{parameter}: {text}"
        stated = re.search(r"Default: (.*)\.$", text)
        default = parameters[parameter].default
        assert stated is None or stated[1] == (f'"{default}"' if isinstance(default, str) else str(default))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_signature_has_every_option(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) or p.name == "row_arguments" for p in parameters)
    options = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty for p in options if p.name not in ("axis_name", "degrees_of_freedom"))


def test_the_signature_of_the_cross_entropy() -> None:
    parameters = inspect.signature(lossjax.softmax_cross_entropy_with_integer_labels).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert defaults == {
        "return_logsumexp": False, "axis": -1, "where": None, "ignore_index": None, "class_weights": None,
        "label_smoothing": 0.0, "smoothing": "uniform", "z_loss": 0.0, "logit_softcap": None, "temperature": 1.0,
        "weights": None, "normalizer": None, "reduction": "none",
    }  # fmt: skip
    assert {name: parameters[name].annotation for name in get_type_hints(SoftmaxOptions)} == get_type_hints(
        SoftmaxOptions
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_pickle(name: str) -> None:
    assert pickle.loads(pickle.dumps(FUNCTIONS[name])) is FUNCTIONS[name]


@pytest.mark.parametrize("name", LOSSES)
def test_plain_forms_pickle_and_have_the_losses_signature(name: str) -> None:
    plain = LOSSES[name].plain  # pyright: ignore[reportFunctionMemberAccess]
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert inspect.signature(plain) == inspect.signature(LOSSES[name])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(label_smoothng=0.1), "label_smoothng'. Did you mean 'label_smoothing'?"),
        (lambda f: f.plain(tempreature=0.1), "tempreature'. Did you mean 'temperature'?"),
        (lambda f: f(zzz=0.1), "zzz'. Its options are axis, class_weights"),
    ],
)
def test_an_unknown_option_is_an_error_with_the_nearest_name(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        call(lossjax.softmax_cross_entropy_with_integer_labels)
    assert str(raised.value).startswith(
        "softmax_cross_entropy_with_integer_labels() got an unexpected keyword argument"
    )


def test_a_docstring_without_the_place_is_refused() -> None:
    def loss(x: float, **options: Unpack[SoftmaxOptions]) -> float:
        """No arguments here."""
        return x

    with pytest.raises(ValueError, match=r"lacks the line \*\*options"):
        with_options(loss)


def test_the_page_of_options_has_each_with_its_default() -> None:
    """docs/api/options.md explains every option of every list, and says what it is by default."""
    page = (ROOT / "docs" / "api" / "options.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \| `(.*?)` \| \S", page, re.M))
    for kind in (HeadOptions, SoftmaxOptions, EntryOptions, FunctionOptions, InformationOptions, LogitMeasureOptions):
        for name, option in options_of(kind).items():
            default = f'"{option.default}"' if isinstance(option.default, str) else str(option.default)
            assert (name, default) in rows
