"""Loss functions for JAX whose values and gradients are proven."""

from typing import TYPE_CHECKING, Any

from lossjax import families as families
from lossjax import geometry as geometry
from lossjax import numerics as numerics
from lossjax.classification import sigmoid_cross_entropy as sigmoid_cross_entropy
from lossjax.classification import softmax_cross_entropy as softmax_cross_entropy
from lossjax.classification import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from lossjax.curvature import softmax_cross_entropy_hvp as softmax_cross_entropy_hvp
from lossjax.families import canonical_nll as canonical_nll
from lossjax.geometry import centered_log_ratio as centered_log_ratio
from lossjax.geometry.fenchel_young import fenchel_young_loss as fenchel_young_loss
from lossjax.information import cross_entropy as cross_entropy
from lossjax.information import entropy as entropy
from lossjax.information import jeffreys_divergence as jeffreys_divergence
from lossjax.information import js_divergence as js_divergence
from lossjax.information import kl_divergence as kl_divergence
from lossjax.information import self_information as self_information
from lossjax.likelihood import gaussian_nll as gaussian_nll
from lossjax.likelihood import laplace_nll as laplace_nll
from lossjax.likelihood import poisson_nll as poisson_nll
from lossjax.likelihood import student_t_nll as student_t_nll
from lossjax.linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from lossjax.logit_divergences import softmax_js_divergence as softmax_js_divergence
from lossjax.logit_divergences import softmax_kl_divergence as softmax_kl_divergence
from lossjax.logits import log_softmax as log_softmax
from lossjax.logits import logsumexp as logsumexp
from lossjax.logits import softmax as softmax
from lossjax.logits import softmax_entropy as softmax_entropy
from lossjax.margin import hinge_loss as hinge_loss
from lossjax.margin import multiclass_hinge_loss as multiclass_hinge_loss
from lossjax.margin import multiclass_perceptron_loss as multiclass_perceptron_loss
from lossjax.margin import multiclass_sparsemax_loss as multiclass_sparsemax_loss
from lossjax.margin import perceptron_loss as perceptron_loss
from lossjax.margin import sparsemax_loss as sparsemax_loss
from lossjax.regression import huber_loss as huber_loss
from lossjax.regression import log_cosh as log_cosh
from lossjax.regression import mean_squared_error as mean_squared_error
from lossjax.regression import quantile_loss as quantile_loss
from lossjax.regression import squared_error as squared_error
from lossjax.reshaped import generalized_cross_entropy as generalized_cross_entropy
from lossjax.reshaped import poly_cross_entropy as poly_cross_entropy
from lossjax.reshaped import sigmoid_focal_loss as sigmoid_focal_loss
from lossjax.reshaped import softmax_focal_loss as softmax_focal_loss
from lossjax.scoring import accuracy as accuracy
from lossjax.scoring import softmax_brier_score as softmax_brier_score
from lossjax.similarity import cosine_distance as cosine_distance
from lossjax.similarity import cosine_similarity as cosine_similarity
from lossjax.vocab_parallel import (
    vocab_parallel_linear_softmax_cross_entropy as vocab_parallel_linear_softmax_cross_entropy,
)
from lossjax.vocab_parallel import vocab_parallel_softmax_cross_entropy as vocab_parallel_softmax_cross_entropy

if TYPE_CHECKING:
    from lossjax import optax as optax
    from lossjax import plot as plot
    from lossjax import verify as verify

__version__ = "0.1.0"

__all__ = [
    "accuracy",
    "canonical_nll",
    "centered_log_ratio",
    "cosine_distance",
    "cosine_similarity",
    "cross_entropy",
    "entropy",
    "families",
    "fenchel_young_loss",
    "gaussian_nll",
    "generalized_cross_entropy",
    "geometry",
    "hinge_loss",
    "huber_loss",
    "jeffreys_divergence",
    "js_divergence",
    "kl_divergence",
    "laplace_nll",
    "linear_softmax_cross_entropy",
    "log_cosh",
    "log_softmax",
    "logsumexp",
    "mean_squared_error",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "numerics",
    "optax",
    "perceptron_loss",
    "plot",
    "poisson_nll",
    "poly_cross_entropy",
    "quantile_loss",
    "self_information",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "softmax",
    "softmax_brier_score",
    "softmax_cross_entropy",
    "softmax_cross_entropy_hvp",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_entropy",
    "softmax_focal_loss",
    "softmax_js_divergence",
    "softmax_kl_divergence",
    "sparsemax_loss",
    "squared_error",
    "student_t_nll",
    "verify",
    "vocab_parallel_linear_softmax_cross_entropy",
    "vocab_parallel_softmax_cross_entropy",
]


def __getattr__(name: str) -> Any:
    """Load what has dependencies of its own when it is first used."""
    if name in ("optax", "plot", "verify"):
        import importlib

        return importlib.import_module(f"lossjax.{name}")
    raise AttributeError(f"module 'lossjax' has no attribute {name!r}")
