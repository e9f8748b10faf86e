"""Geometry of the basic losses: projections, Bregman divergences, Fisher's metric, and Aitchison's simplex."""

from lossjax.geometry.bregman import Generator as Generator
from lossjax.geometry.bregman import bregman_divergence as bregman_divergence
from lossjax.geometry.fisher import fisher_information as fisher_information
from lossjax.geometry.fisher import fisher_rao_distance as fisher_rao_distance
from lossjax.geometry.fisher import fisher_rao_geodesic as fisher_rao_geodesic
from lossjax.geometry.fisher import sectional_curvature as sectional_curvature
from lossjax.geometry.fisher import softmax_fisher_vector_product as softmax_fisher_vector_product
from lossjax.geometry.generators import BernoulliEntropy as BernoulliEntropy
from lossjax.geometry.generators import BurgEntropy as BurgEntropy
from lossjax.geometry.generators import Exponential as Exponential
from lossjax.geometry.generators import LogSumExp as LogSumExp
from lossjax.geometry.generators import Mahalanobis as Mahalanobis
from lossjax.geometry.generators import NegativeEntropy as NegativeEntropy
from lossjax.geometry.generators import Softplus as Softplus
from lossjax.geometry.generators import SquaredEuclidean as SquaredEuclidean
from lossjax.geometry.generators import Tsallis as Tsallis
from lossjax.geometry.projection import least_squares as least_squares
from lossjax.geometry.projection import orthogonal_projection as orthogonal_projection
from lossjax.geometry.projection import project_to_ball as project_to_ball
from lossjax.geometry.projection import project_to_box as project_to_box
from lossjax.geometry.projection import project_to_simplex as project_to_simplex
from lossjax.geometry.projection import projection_matrix as projection_matrix
from lossjax.geometry.projection import r_squared as r_squared
from lossjax.geometry.simplex import aitchison_add as aitchison_add
from lossjax.geometry.simplex import aitchison_distance as aitchison_distance
from lossjax.geometry.simplex import aitchison_scale as aitchison_scale
from lossjax.geometry.simplex import centered_log_ratio as centered_log_ratio

__all__ = [
    "BernoulliEntropy",
    "BurgEntropy",
    "Exponential",
    "Generator",
    "LogSumExp",
    "Mahalanobis",
    "NegativeEntropy",
    "Softplus",
    "SquaredEuclidean",
    "Tsallis",
    "aitchison_add",
    "aitchison_distance",
    "aitchison_scale",
    "bregman_divergence",
    "centered_log_ratio",
    "fisher_information",
    "fisher_rao_distance",
    "fisher_rao_geodesic",
    "least_squares",
    "orthogonal_projection",
    "project_to_ball",
    "project_to_box",
    "project_to_simplex",
    "projection_matrix",
    "r_squared",
    "sectional_curvature",
    "softmax_fisher_vector_product",
]
