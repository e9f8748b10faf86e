"""Geometry of the basic losses: projections, Bregman divergences, Fisher's metric, and Aitchison's simplex."""

from lossjax.geometry.bregman import Generator as Generator
from lossjax.geometry.bregman import bregman_divergence as bregman_divergence
from lossjax.geometry.contours import entropy_contour as entropy_contour
from lossjax.geometry.convex import project_to_affine as project_to_affine
from lossjax.geometry.convex import project_to_ball as project_to_ball
from lossjax.geometry.convex import project_to_box as project_to_box
from lossjax.geometry.convex import project_to_half_space as project_to_half_space
from lossjax.geometry.convex import project_to_simplex as project_to_simplex
from lossjax.geometry.fenchel_young import entmax as entmax
from lossjax.geometry.fenchel_young import fenchel_young_loss as fenchel_young_loss
from lossjax.geometry.fisher import fisher_information as fisher_information
from lossjax.geometry.fisher import natural_gradient as natural_gradient
from lossjax.geometry.fisher import softmax_fisher_vector_product as softmax_fisher_vector_product
from lossjax.geometry.fisher import softmax_gauss_newton_vector_product as softmax_gauss_newton_vector_product
from lossjax.geometry.fisher_rao import fisher_rao_distance as fisher_rao_distance
from lossjax.geometry.fisher_rao import fisher_rao_exp as fisher_rao_exp
from lossjax.geometry.fisher_rao import fisher_rao_geodesic as fisher_rao_geodesic
from lossjax.geometry.fisher_rao import fisher_rao_log as fisher_rao_log
from lossjax.geometry.generators import BernoulliEntropy as BernoulliEntropy
from lossjax.geometry.generators import BurgEntropy as BurgEntropy
from lossjax.geometry.generators import Exponential as Exponential
from lossjax.geometry.generators import LogSumExp as LogSumExp
from lossjax.geometry.generators import NegativeEntropy as NegativeEntropy
from lossjax.geometry.generators import Softplus as Softplus
from lossjax.geometry.generators import SquaredEuclidean as SquaredEuclidean
from lossjax.geometry.generators import Tsallis as Tsallis
from lossjax.geometry.information_projection import i_projection as i_projection
from lossjax.geometry.information_projection import m_projection as m_projection
from lossjax.geometry.intersection import ProjectionInfo as ProjectionInfo
from lossjax.geometry.intersection import project_convex as project_convex
from lossjax.geometry.mahalanobis import Mahalanobis as Mahalanobis
from lossjax.geometry.projection import least_squares as least_squares
from lossjax.geometry.projection import orthogonal_projection as orthogonal_projection
from lossjax.geometry.projection import projection_matrix as projection_matrix
from lossjax.geometry.projection import r_squared as r_squared
from lossjax.geometry.riemannian import gaussian_fisher_rao_distance as gaussian_fisher_rao_distance
from lossjax.geometry.riemannian import sectional_curvature as sectional_curvature
from lossjax.geometry.simplex import aitchison_add as aitchison_add
from lossjax.geometry.simplex import aitchison_distance as aitchison_distance
from lossjax.geometry.simplex import aitchison_inner_product as aitchison_inner_product
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
    "ProjectionInfo",
    "Softplus",
    "SquaredEuclidean",
    "Tsallis",
    "aitchison_add",
    "aitchison_distance",
    "aitchison_inner_product",
    "aitchison_scale",
    "bregman_divergence",
    "centered_log_ratio",
    "entmax",
    "entropy_contour",
    "fenchel_young_loss",
    "fisher_information",
    "fisher_rao_distance",
    "fisher_rao_exp",
    "fisher_rao_geodesic",
    "fisher_rao_log",
    "gaussian_fisher_rao_distance",
    "i_projection",
    "least_squares",
    "m_projection",
    "natural_gradient",
    "orthogonal_projection",
    "project_convex",
    "project_to_affine",
    "project_to_ball",
    "project_to_box",
    "project_to_half_space",
    "project_to_simplex",
    "projection_matrix",
    "r_squared",
    "sectional_curvature",
    "softmax_fisher_vector_product",
    "softmax_gauss_newton_vector_product",
]
