"""Chapter 4.1 in pictures. Every function takes the axes to draw on and returns them, so that a user can restyle them.

The package needs the extra ``plot`` (matplotlib): ``pip install ".[plot]"`` in a clone of lossjax. The colours are
those of Okabe and Ito, which can be told apart under every colour blindness. Each curve also has its own line style,
for grey print.
"""

import importlib.util

if importlib.util.find_spec("matplotlib") is None:
    raise ImportError(
        'lossjax.plot needs matplotlib; install it with: pip install "lossjax[plot]", '
        'or in a clone of lossjax: pip install ".[plot]"'
    )

from lossjax.plot._accuracy import errors_against_margin as errors_against_margin
from lossjax.plot._atlas import Way as Way
from lossjax.plot._atlas import atlas_map as atlas_map
from lossjax.plot._atlas import errors_along as errors_along
from lossjax.plot._atlas import save_map as save_map
from lossjax.plot._cancellation import errors_against_distance as errors_against_distance
from lossjax.plot._figures import FIGURES as FIGURES
from lossjax.plot._figures import Fact as Fact
from lossjax.plot._figures import Recipe as Recipe
from lossjax.plot._figures import save as save
from lossjax.plot._logits import logit_plane as logit_plane
from lossjax.plot._logits import losses_against_logit as losses_against_logit
from lossjax.plot._logits import slopes_against_logit as slopes_against_logit
from lossjax.plot._memory import memory_against_rows as memory_against_rows
from lossjax.plot._memory import memory_against_vocabulary as memory_against_vocabulary
from lossjax.plot._projections import nearest_in_family as nearest_in_family
from lossjax.plot._projections import nearest_with_moments as nearest_with_moments
from lossjax.plot._regression import squared_error_contours as squared_error_contours
from lossjax.plot._simplex import fisher_balls as fisher_balls
from lossjax.plot._simplex import geodesics as geodesics
from lossjax.plot._simplex import kl_contours as kl_contours
from lossjax.plot._ternary import ternary as ternary
from lossjax.plot._ternary import ternary_axes as ternary_axes
from lossjax.plot._traffic import memory_traffic as memory_traffic
from lossjax.plot._traffic import save_memory_traffic as save_memory_traffic

__all__ = [
    "FIGURES",
    "Fact",
    "Recipe",
    "Way",
    "atlas_map",
    "errors_against_distance",
    "errors_against_margin",
    "errors_along",
    "fisher_balls",
    "geodesics",
    "kl_contours",
    "logit_plane",
    "losses_against_logit",
    "memory_against_rows",
    "memory_against_vocabulary",
    "memory_traffic",
    "nearest_in_family",
    "nearest_with_moments",
    "save",
    "save_map",
    "save_memory_traffic",
    "slopes_against_logit",
    "squared_error_contours",
    "ternary",
    "ternary_axes",
]
