"""``python -m lossjax`` and the ``lossjax`` command."""

import sys


def main() -> None:
    """Run the command line; a command without the extra ``verify`` says what to install (exit code 2)."""
    try:
        from lossjax.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(_without_typer(str(error.name), sys.argv[1:]))
    try:
        app(prog_name="lossjax")
    except ImportError as error:
        if "lossjax[verify]" not in str(error):
            raise
        sys.exit(_missing("python-flint"))


HELP = """Usage: lossjax [--version] [--help] COMMAND

Loss functions for JAX whose values and gradients are proven.

Commands: verify, check, atlas, figure, bench. They need an extra: pip install "lossjax[verify]",
or in a clone of lossjax: pip install ".[verify]"

Examples: lossjax check optax.losses:log_cosh, lossjax verify --section 4.1.3
"""


def _without_typer(package: str, arguments: list[str]) -> int:
    """Version and help need nothing; a command says what to install."""
    if "--version" in arguments:
        import lossjax

        print(f"lossjax {lossjax.__version__}")
        return 0
    if not arguments or "--help" in arguments:
        print(HELP, end="")
        return 0
    return _missing(package)


def _missing(package: str) -> int:
    print(
        f'lossjax: the command line needs {package}; install it with: pip install "lossjax[verify]", '
        'or in a clone of lossjax: pip install ".[verify]"',
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    main()
