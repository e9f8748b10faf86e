"""Docstrings as the site shows them: the shared options, and the project's own sections.

An extension of griffe, which reads the source without running it. So it sees only ``**options: Unpack[SomeOptions]``
where ``help`` shows signature and arguments, and takes a section that it does not know (``Accuracy: …``) and that has
more than one line for an admonition.
"""

import importlib
import re
import typing
from collections.abc import Iterator
from typing import Any

import griffe


def functions(module: griffe.Module) -> Iterator[griffe.Function]:
    """Each function of a package that shows its ``**options`` at run time."""
    for member in module.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Module):
            yield from functions(member)
        elif isinstance(member, griffe.Function) and "with_options" in {str(d.value) for d in member.decorators}:
            yield member


def annotations(path: str, package: griffe.Module) -> dict[str, Any]:
    """The types of a ``TypedDict`` of options as its source spells them, inherited ones first."""
    if not path.startswith(f"{package.path}."):
        return {}  # typing.TypedDict
    kind, found = package[path.removeprefix(f"{package.path}.")], {}
    for base in kind.bases:
        found |= annotations(kind.resolve(str(base)), package)
    for name, attribute in kind.attributes.items():
        found[name] = attribute.annotation.slice.elements[0]  # of Annotated[type, Option(…)]
    return found


OWN_SECTION = re.compile(
    r"^(Domain|Gradient|Accuracy|Source):((?:[^\S\n]*\n)?(?:.*\S.*)(?:\n[^\S\n]+\S.*)*)", re.MULTILINE
)
RETURNS = re.compile(r"^(Returns:\n[^\S\n]+)(?=.*:)", re.MULTILINE)
"""Griffe would take what stands before a colon in the first line for the type."""
DEFAULT = re.compile(r"\s+Default:\s+\S+\.$", re.MULTILINE)
"""What ends the meaning of a shared option in ``help``; the site has it from the signature."""


def docstrings(parent: griffe.Module | griffe.Class) -> Iterator[griffe.Docstring]:
    """Each docstring of a package."""
    for member in parent.members.values():
        if member.is_alias:
            continue
        if member.docstring is not None:
            yield member.docstring
        if isinstance(member, griffe.Module | griffe.Class):
            yield from docstrings(member)


class SharedOptions(griffe.Extension):
    """Replace ``**options`` by the options, type what is returned, and put each section of the project on one line."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Once all of the package is read."""
        for function in functions(pkg):
            kept = [parameter for parameter in function.parameters if parameter.name != "options"]
            runtime = getattr(importlib.import_module(function.module.path), function.name)
            (kind,) = typing.get_args(typing.get_type_hints(runtime, include_extras=True)["options"])
            defaults = runtime.__signature__.parameters
            keyword = griffe.ParameterKind.keyword_only
            shared = [
                griffe.Parameter(name, annotation=annotation, kind=keyword, default=repr(defaults[name].default))
                for name, annotation in annotations(f"{kind.__module__}.{kind.__qualname__}", pkg).items()
            ]
            function.parameters = griffe.Parameters(*kept, *shared)
            function.docstring.value = DEFAULT.sub("", griffe.Docstring(runtime.__doc__).value)
        for docstring in docstrings(pkg):
            text = OWN_SECTION.sub(lambda m: f"{m[1]}: {' '.join(m[2].split())}", docstring.value)
            if isinstance(docstring.parent, griffe.Function) and docstring.parent.returns is not None:
                text = RETURNS.sub(rf"\g<1>{docstring.parent.returns}: ", text)
            docstring.value = text
