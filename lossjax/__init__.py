"""Loss functions for JAX whose values and gradients are proven."""

import sys
from typing import TYPE_CHECKING, Any

from lossjax import families as families
from lossjax import geometry as geometry
from lossjax import numerics as numerics
from lossjax import policy as policy
from lossjax import preference as preference
from lossjax.families import canonical_nll as canonical_nll
from lossjax.geometry import centered_log_ratio as centered_log_ratio
from lossjax.geometry.fenchel_young import fenchel_young_loss as fenchel_young_loss
from lossjax.losses.classification import sigmoid_cross_entropy as sigmoid_cross_entropy
from lossjax.losses.classification import softmax_cross_entropy as softmax_cross_entropy
from lossjax.losses.classification import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from lossjax.losses.curvature import softmax_cross_entropy_hvp as softmax_cross_entropy_hvp
from lossjax.losses.focal import generalized_cross_entropy as generalized_cross_entropy
from lossjax.losses.focal import poly_cross_entropy as poly_cross_entropy
from lossjax.losses.focal import sigmoid_focal_loss as sigmoid_focal_loss
from lossjax.losses.focal import softmax_focal_loss as softmax_focal_loss
from lossjax.losses.huber_variants import pseudo_huber_loss as pseudo_huber_loss
from lossjax.losses.huber_variants import smooth_l1_loss as smooth_l1_loss
from lossjax.losses.information import cross_entropy as cross_entropy
from lossjax.losses.information import entropy as entropy
from lossjax.losses.information import jeffreys_divergence as jeffreys_divergence
from lossjax.losses.information import js_divergence as js_divergence
from lossjax.losses.information import kl_divergence as kl_divergence
from lossjax.losses.information import self_information as self_information
from lossjax.losses.likelihood import gaussian_nll as gaussian_nll
from lossjax.losses.likelihood import laplace_nll as laplace_nll
from lossjax.losses.likelihood import poisson_nll as poisson_nll
from lossjax.losses.likelihood import student_t_nll as student_t_nll
from lossjax.losses.linear_head import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from lossjax.losses.linear_loss import linear_loss as linear_loss
from lossjax.losses.linear_loss import vocab_parallel_linear_loss as vocab_parallel_linear_loss
from lossjax.losses.linear_measures import linear_softmax_entropy as linear_softmax_entropy
from lossjax.losses.linear_measures import linear_softmax_js_divergence as linear_softmax_js_divergence
from lossjax.losses.linear_measures import linear_softmax_kl_divergence as linear_softmax_kl_divergence
from lossjax.losses.logit_divergences import softmax_js_divergence as softmax_js_divergence
from lossjax.losses.logit_divergences import softmax_kl_divergence as softmax_kl_divergence
from lossjax.losses.logits import log_softmax as log_softmax
from lossjax.losses.logits import logsumexp as logsumexp
from lossjax.losses.logits import softmax as softmax
from lossjax.losses.logits import softmax_entropy as softmax_entropy
from lossjax.losses.margins import hinge_loss as hinge_loss
from lossjax.losses.margins import multiclass_hinge_loss as multiclass_hinge_loss
from lossjax.losses.margins import multiclass_perceptron_loss as multiclass_perceptron_loss
from lossjax.losses.margins import multiclass_sparsemax_loss as multiclass_sparsemax_loss
from lossjax.losses.margins import perceptron_loss as perceptron_loss
from lossjax.losses.margins import sparsemax_loss as sparsemax_loss
from lossjax.losses.regression import huber_loss as huber_loss
from lossjax.losses.regression import log_cosh as log_cosh
from lossjax.losses.regression import mean_squared_error as mean_squared_error
from lossjax.losses.regression import quantile_loss as quantile_loss
from lossjax.losses.regression import squared_error as squared_error
from lossjax.losses.scoring import accuracy as accuracy
from lossjax.losses.scoring import softmax_brier_score as softmax_brier_score
from lossjax.losses.similarity import cosine_distance as cosine_distance
from lossjax.losses.similarity import cosine_similarity as cosine_similarity
from lossjax.losses.sparse_targets import (
    linear_softmax_cross_entropy_with_sparse_targets as linear_softmax_cross_entropy_with_sparse_targets,
)
from lossjax.losses.sparse_targets import (
    softmax_cross_entropy_with_sparse_targets as softmax_cross_entropy_with_sparse_targets,
)
from lossjax.losses.tokens import TokenStatistics as TokenStatistics
from lossjax.losses.tokens import linear_token_log_probs as linear_token_log_probs
from lossjax.losses.tokens import linear_token_statistics as linear_token_statistics
from lossjax.losses.tokens import token_log_probs as token_log_probs
from lossjax.losses.tokens import token_statistics as token_statistics
from lossjax.losses.vocab_parallel import (
    vocab_parallel_linear_softmax_cross_entropy as vocab_parallel_linear_softmax_cross_entropy,
)
from lossjax.losses.vocab_parallel import vocab_parallel_softmax_cross_entropy as vocab_parallel_softmax_cross_entropy
from lossjax.losses.vocab_parallel_measures import (
    vocab_parallel_linear_softmax_entropy as vocab_parallel_linear_softmax_entropy,
)
from lossjax.losses.vocab_parallel_measures import (
    vocab_parallel_linear_softmax_js_divergence as vocab_parallel_linear_softmax_js_divergence,
)
from lossjax.losses.vocab_parallel_measures import (
    vocab_parallel_linear_softmax_kl_divergence as vocab_parallel_linear_softmax_kl_divergence,
)
from lossjax.losses.vocab_parallel_tokens import (
    vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets as vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets,  # noqa: E501  # a name, twice
)
from lossjax.losses.vocab_parallel_tokens import (
    vocab_parallel_linear_token_log_probs as vocab_parallel_linear_token_log_probs,
)
from lossjax.losses.vocab_parallel_tokens import (
    vocab_parallel_linear_token_statistics as vocab_parallel_linear_token_statistics,
)

if TYPE_CHECKING:
    from lossjax import optax as optax
    from lossjax import plot as plot
    from lossjax import verify as verify

__version__ = "0.2.0"

__all__ = [
    "TokenStatistics",
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
    "linear_loss",
    "linear_softmax_cross_entropy",
    "linear_softmax_cross_entropy_with_sparse_targets",
    "linear_softmax_entropy",
    "linear_softmax_js_divergence",
    "linear_softmax_kl_divergence",
    "linear_token_log_probs",
    "linear_token_statistics",
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
    "policy",
    "poly_cross_entropy",
    "preference",
    "pseudo_huber_loss",
    "quantile_loss",
    "self_information",
    "sigmoid_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "softmax",
    "softmax_brier_score",
    "softmax_cross_entropy",
    "softmax_cross_entropy_hvp",
    "softmax_cross_entropy_with_integer_labels",
    "softmax_cross_entropy_with_sparse_targets",
    "softmax_entropy",
    "softmax_focal_loss",
    "softmax_js_divergence",
    "softmax_kl_divergence",
    "sparsemax_loss",
    "squared_error",
    "student_t_nll",
    "token_log_probs",
    "token_statistics",
    "verify",
    "vocab_parallel_linear_loss",
    "vocab_parallel_linear_softmax_cross_entropy",
    "vocab_parallel_linear_softmax_cross_entropy_with_sparse_targets",
    "vocab_parallel_linear_softmax_entropy",
    "vocab_parallel_linear_softmax_js_divergence",
    "vocab_parallel_linear_softmax_kl_divergence",
    "vocab_parallel_linear_token_log_probs",
    "vocab_parallel_linear_token_statistics",
    "vocab_parallel_softmax_cross_entropy",
]


_FORMER_PATHS = {
    "classification": "classification",
    "curvature": "curvature",
    "information": "information",
    "likelihood": "likelihood",
    "linear": "linear_head",
    "logit_divergences": "logit_divergences",
    "logits": "logits",
    "margin": "margins",
    "regression": "regression",
    "reshaped": "focal",
    "scoring": "scoring",
    "similarity": "similarity",
    "vocab_parallel": "vocab_parallel",
}
"""Modules that were once directly in ``lossjax``, and where they are in ``lossjax.losses``: both paths work."""

for _former, _present in _FORMER_PATHS.items():
    sys.modules[f"lossjax.{_former}"] = sys.modules[f"lossjax.losses.{_present}"]


def __getattr__(name: str) -> Any:
    """Find the modules at their former paths, and load what has dependencies of its own when it is first used."""
    if name in _FORMER_PATHS:
        return sys.modules[f"lossjax.{name}"]
    if name in ("optax", "plot", "verify"):
        import importlib

        return importlib.import_module(f"lossjax.{name}")
    raise AttributeError(f"module 'lossjax' has no attribute {name!r}")
