"""Where things are, counted from here once."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
