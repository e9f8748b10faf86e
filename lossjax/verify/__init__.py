"""Proofs: claims of a textbook's chapter 4.1 on basic loss functions, checked here, and the exact arithmetic behind.

Needs the extra ``verify`` (python-flint, rich, typer): ``pip install ".[verify]"`` in a clone of lossjax.
"""

import importlib.util

if importlib.util.find_spec("flint") is None:
    raise ImportError(
        'lossjax.verify needs python-flint; install it with: pip install "lossjax[verify]", '
        'or in a clone of lossjax: pip install ".[verify]"'
    )

from lossjax.verify._atlas import Atlas as Atlas
from lossjax.verify._atlas import Chart as Chart
from lossjax.verify._atlas import atlas as atlas
from lossjax.verify._atlas import functions_of as functions_of
from lossjax.verify._box import Bounds as Bounds
from lossjax.verify._box import bounds as bounds
from lossjax.verify._box import rule_bounds as rule_bounds
from lossjax.verify._check import Certificate as Certificate
from lossjax.verify._check import assert_verified as assert_verified
from lossjax.verify._check import check as check
from lossjax.verify._exact import UndecidedComparison as UndecidedComparison
from lossjax.verify._exact import UnsupportedPrimitive as UnsupportedPrimitive
from lossjax.verify._exact import exact as exact
from lossjax.verify._losses import Certified as Certified
from lossjax.verify._losses import losses as losses
from lossjax.verify._theorems import theorems as theorems
from lossjax.verify.claim import Claim as Claim
from lossjax.verify.claim import Figure as Figure
from lossjax.verify.claim import Measurement as Measurement
from lossjax.verify.claim import Result as Result

__all__ = [
    "Atlas",
    "Bounds",
    "Certificate",
    "Certified",
    "Chart",
    "Claim",
    "Figure",
    "Measurement",
    "Result",
    "UndecidedComparison",
    "UnsupportedPrimitive",
    "assert_verified",
    "atlas",
    "bounds",
    "check",
    "exact",
    "functions_of",
    "losses",
    "rule_bounds",
    "theorems",
]
