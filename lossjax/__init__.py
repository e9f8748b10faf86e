"""Loss functions for JAX whose values and gradients are proven."""

from typing import TYPE_CHECKING, Any

from lossjax import geometry as geometry
from lossjax import numerics as numerics
from lossjax.classification import sigmoid_cross_entropy as sigmoid_cross_entropy
from lossjax.classification import softmax_cross_entropy as softmax_cross_entropy
from lossjax.classification import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from lossjax.information import cross_entropy as cross_entropy
from lossjax.information import entropy as entropy
from lossjax.information import jeffreys_divergence as jeffreys_divergence
from lossjax.information import js_divergence as js_divergence
from lossjax.information import kl_divergence as kl_divergence
from lossjax.information import self_information as self_information
from lossjax.logits import log_softmax as log_softmax
from lossjax.logits import logsumexp as logsumexp
from lossjax.logits import softmax as softmax
from lossjax.logits import softmax_entropy as softmax_entropy
from lossjax.logits import softmax_kl_divergence as softmax_kl_divergence
from lossjax.regression import gaussian_nll as gaussian_nll
from lossjax.regression import mean_squared_error as mean_squared_error
from lossjax.regression import squared_error as squared_error

if TYPE_CHECKING:
    from lossjax import verify as verify

__version__ = "0.1.0"

__all__ = [
    "cross_entropy",
    "entropy",
    "gaussian_nll",
    "geometry",
    "jeffreys_divergence",
    "js_divergence",
    "kl_divergence",
    "log_softmax",
    "logsumexp",
    "mean_squared_error",
    "numerics",
    "self_information",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_entropy",
    "softmax_kl_divergence",
    "squared_error",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load what has dependencies of its own when it is first used."""
    if name == "verify":
        import importlib

        return importlib.import_module("lossjax.verify")
    raise AttributeError(f"module 'lossjax' has no attribute {name!r}")
