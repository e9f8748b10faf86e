"""Exponential families: log-partition, mean and variance, and the losses and divergences that they all share."""

from lossjax.families.family import Family as Family
from lossjax.families.family import canonical_nll as canonical_nll
from lossjax.families.family import deviance as deviance
from lossjax.families.family import kl_divergence as kl_divergence
from lossjax.families.scalar import Bernoulli as Bernoulli
from lossjax.families.scalar import Exponential as Exponential
from lossjax.families.scalar import Gamma as Gamma
from lossjax.families.scalar import Gaussian as Gaussian
from lossjax.families.scalar import InverseGaussian as InverseGaussian
from lossjax.families.scalar import NegativeBinomial as NegativeBinomial
from lossjax.families.scalar import Poisson as Poisson
from lossjax.families.vector import Categorical as Categorical
from lossjax.families.vector import GaussianUnknownVariance as GaussianUnknownVariance

__all__ = [
    "Bernoulli",
    "Categorical",
    "Exponential",
    "Family",
    "Gamma",
    "Gaussian",
    "GaussianUnknownVariance",
    "InverseGaussian",
    "NegativeBinomial",
    "Poisson",
    "canonical_nll",
    "deviance",
    "kl_divergence",
]
