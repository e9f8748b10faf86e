"""``python -m lossjax`` and the ``lossjax`` command."""

import sys


def main() -> None:
    """Run the command line; without the extra ``verify``, say what to install (exit code 2)."""
    try:
        from lossjax.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(_missing(str(error.name)))
    try:
        app(prog_name="lossjax")
    except ImportError as error:
        if "lossjax[verify]" not in str(error):
            raise
        sys.exit(_missing("python-flint"))


def _missing(package: str) -> int:
    print(f'lossjax: the command line needs {package}; install it with: pip install "lossjax[verify]"', file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
