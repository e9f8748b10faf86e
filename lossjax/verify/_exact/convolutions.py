"""The rule of convolutions."""

from typing import Any

import numpy as np

from lossjax.verify._exact.context import Context
from lossjax.verify._exact.reductions import product
from lossjax.verify._exact.rules import ZERO, rule, to_array
from lossjax.verify._exact.windows import windows
from lossjax.verify.ulp import Balls


@rule(
    "conv_general_dilated",
    reads=[
        "window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count",
        "batch_group_count",
    ],
)  # fmt: skip
def _convolution(context: Context, params: Any, left: Any, right: Any) -> Balls:
    """Every window of the left operand times every kernel, group by group."""
    numbers = params["dimension_numbers"]
    images = np.transpose(context.balls(left), numbers.lhs_spec)  # batch, feature, space
    kernels = np.transpose(context.balls(right), numbers.rhs_spec)  # feature out, feature in, space
    sizes = kernels.shape[2:]
    dilations = params["lhs_dilation"], params["rhs_dilation"]
    places = windows(images.shape[2:], sizes, params["window_strides"], params["padding"], *dilations)
    space = places.shape[: len(sizes)]
    features, batches = params["feature_group_count"], params["batch_group_count"]
    groups = [
        _group(context, image, kernel, places)
        for image, kernel in zip(
            np.split(images, features, axis=1) if features > 1 else np.split(images, batches, axis=0),
            np.split(kernels, max(features, batches), axis=0),
            strict=True,
        )
    ]
    result = np.concatenate(groups, axis=1).reshape(len(images) // batches, len(kernels), *space)
    back = np.argsort(numbers.out_spec)
    return np.transpose(result, back)


def _group(context: Context, images: Balls, kernels: Balls, places: np.ndarray) -> Balls:
    """Batch, feature out, place: of one group."""
    batch, features = images.shape[:2]
    outputs, length = len(kernels), int(np.prod(kernels.shape[1:], dtype=int))
    count = int(np.prod(places.shape, dtype=int)) // max(int(np.prod(kernels.shape[2:], dtype=int)), 1)
    if not (batch and outputs and count):
        return np.empty((batch, outputs, count), object)
    if not length:
        return to_array([ZERO] * (batch * outputs * count), (batch, outputs, count))
    flat = images.reshape(batch, features, -1)
    outside = np.broadcast_to(to_array([ZERO], (1, 1, 1)), (batch, features, 1))
    taken = np.concatenate([flat, outside], axis=2)[:, :, places.reshape(count, -1)]  # the place -1 is the last, a zero
    rows = np.moveaxis(taken, 2, 1).reshape(batch * count, length)
    entries = product(context, rows.tolist(), kernels.reshape(outputs, length).tolist())
    return np.moveaxis(to_array(entries, (batch, count, outputs)), 1, 2)
