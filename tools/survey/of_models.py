"""Subjects of what models are built of: ott, e3nn, rax, tokamax."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from survey.of_libraries import KEY, LABELS, ROWS
from survey.subjects import IMAGE, OTHER, POSITIVE, SQUARE, TALL, UNIT, WHOLE, Subject


def _all(library: str, table: dict[str, tuple[Any, ...]]) -> Iterator[Subject]:
    for name, (function, *args) in table.items():
        yield Subject(library, f"{library}.{name}", function, tuple(args))


def ott() -> Iterator[Subject]:
    """Sinkhorn's algorithm, costs, and what is built on them."""
    from ott.geometry import costs, geometry, pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn
    from ott.tools import sinkhorn_divergence, soft_sort

    def transported(x: Any, y: Any, **options: Any) -> Any:
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=0.5))
        return sinkhorn.Sinkhorn(max_iterations=20, **options)(problem).reg_ot_cost

    table: dict[str, tuple[Any, ...]] = {
        "Sinkhorn": (transported, TALL, TALL + 0.3), "Sinkhorn (scaling)": (lambda x, y: transported(x, y, lse_mode=False), TALL, TALL + 0.3),
        "sinkhorn_divergence": (lambda x, y: sinkhorn_divergence.sinkhorn_divergence(pointcloud.PointCloud, x, y, epsilon=0.5)[0], TALL, TALL + 0.3),
        "soft_sort.sort": (lambda x: soft_sort.sort(x, epsilon=0.5, max_iterations=20), UNIT), "soft_sort.ranks": (lambda x: soft_sort.ranks(x, epsilon=0.5, max_iterations=20), UNIT),
        "soft_sort.quantile": (lambda x: soft_sort.quantile(x, q=np.array([0.5]), epsilon=0.5, max_iterations=20), UNIT),
        "Geometry.transport_from_potentials": (lambda c: geometry.Geometry(cost_matrix=c, epsilon=0.5).transport_from_potentials(c[0], c[1]), SQUARE),
    }  # fmt: skip
    for name in (
        "SqEuclidean",
        "Euclidean",
        "Cosine",
        "Dotp",
        "PNormP",
        "TICost",
        "Bures",
        "SqPNorm",
        "ElasticL1",
        "SoftDTW",
    ):
        if (kind := getattr(costs, name, None)) is not None:
            for given in ((), (1.5,), (2,)):
                try:
                    made = kind(*given)
                    jax.eval_shape(made, UNIT, OTHER)
                except Exception:
                    continue
                table[f"costs.{name}"] = (made, UNIT, OTHER)
                break
    yield from _all("ott", table)


def e3nn_jax() -> Iterator[Subject]:
    """Spherical harmonics, tensor products, Wigner's matrices, and radial bases."""
    import e3nn_jax as library

    def irreps(x: Any, kind: str = "1x0e+1x1o") -> Any:
        return library.IrrepsArray(kind, x)

    yield from _all("e3nn_jax", {
        "spherical_harmonics": (lambda x: library.spherical_harmonics("0e+1o+2e", x, True).array, SQUARE),
        "spherical_harmonics (unnormalised)": (lambda x: library.spherical_harmonics("1o+2e", x, False).array, SQUARE),
        "tensor_product": (lambda x, y: library.tensor_product(irreps(x), irreps(y)).array, UNIT, OTHER),
        "elementwise_tensor_product": (lambda x, y: library.elementwise_tensor_product(irreps(x), irreps(y)).array, UNIT, OTHER),
        "tensor_square": (lambda x: library.tensor_square(irreps(x)).array, UNIT), "norm": (lambda x: library.norm(irreps(x)).array, UNIT),
        "dot": (lambda x, y: library.dot(irreps(x), irreps(y)).array, UNIT, OTHER), "cross": (lambda x, y: library.cross(irreps(x, "1o"), irreps(y, "1o")).array, SQUARE[0], SQUARE[1]),
        "gate": (lambda x: library.gate(irreps(x, "2x0e+1x1o")).array, np.append(UNIT, 0.3)), "norm_activation": (lambda x: library.norm_activation(irreps(x), [jax.nn.silu, jax.nn.silu]).array, UNIT),
        "scalar_activation": (lambda x: library.scalar_activation(irreps(x, "4x0e"), [jax.nn.gelu]).array, UNIT), "bessel": (lambda x: library.bessel(x, 4, 2.0), UNIT),
        "soft_envelope": (lambda x: library.soft_envelope(x, 1.5), UNIT), "soft_one_hot_linspace": (lambda x: library.soft_one_hot_linspace(x, start=0.0, end=1.0, number=3, basis="gaussian", cutoff=False), UNIT),
        "u": (lambda x: library.u(2, x), UNIT), "sus": (library.sus, UNIT), "poly_envelope": (lambda x: library.poly_envelope(2, 1)(x), UNIT),
        "angles_to_matrix": (library.angles_to_matrix, UNIT, OTHER, UNIT), "matrix_to_angles": (lambda a, b: library.matrix_to_angles(library.angles_to_matrix(a, b, a)), UNIT, OTHER),
        "angles_to_quaternion": (library.angles_to_quaternion, UNIT, OTHER, UNIT), "axis_angle_to_matrix": (library.axis_angle_to_matrix, SQUARE[0], 0.7),
        "matrix_to_quaternion": (lambda a, b: library.matrix_to_quaternion(library.angles_to_matrix(a, b, a)), UNIT, OTHER), "compose_quaternion": (library.compose_quaternion, UNIT, OTHER),
        "legendre": (lambda x: library.legendre.legendre(2, x) if hasattr(library.legendre, "legendre") else library.legendre(2, x), UNIT), "scatter_sum": (lambda x: library.scatter_sum(x, dst=WHOLE % 2, output_size=2), UNIT),
        "radius_graph": (lambda x: x * library.radius_graph(SQUARE, 2.0, size=4)[0][:3], SQUARE[0]),
        "to_s2grid": (lambda x: library.to_s2grid(irreps(x), 6, 5, quadrature="soft").grid_values, UNIT), "sum": (lambda x: library.sum(irreps(x)).array, UNIT),
    })  # fmt: skip


def rax() -> Iterator[Subject]:
    """Every loss, metric and transformation."""
    import rax as library

    labels = np.array([1.0, 0.0, 2.0, 1.0])
    for name in sorted(dir(library)):
        if name.endswith(("_loss", "_metric")):
            function = getattr(library, name)
            yield Subject("rax", f"rax.{name}", lambda s, f=function: f(s, labels), (UNIT,))
    yield Subject("rax", "rax.approx_t12n", lambda s: library.approx_t12n(library.ndcg_metric)(s, labels), (UNIT,))
    yield Subject(
        "rax", "rax.gumbel_t12n", lambda s: library.gumbel_t12n(library.softmax_loss)(s, labels, key=KEY), (UNIT,)
    )
    yield Subject("rax", "rax.bound_t12n", lambda s: library.bound_t12n(library.ndcg_metric)(s, labels), (UNIT,))
    yield Subject(
        "rax", "rax.segment", lambda s: library.softmax_loss(s, labels, segments=np.array([0, 0, 1, 1])), (UNIT,)
    )


def tokamax() -> Iterator[Subject]:
    """Its operations in their XLA form, and its head."""
    import tokamax as library
    from absl import flags

    flags.FLAGS(["survey"])
    heads = IMAGE[:, :, :4] + 0.1
    yield from _all("tokamax", {
        "linear_softmax_cross_entropy_loss": (lambda x, w: library.linear_softmax_cross_entropy_loss(x, LABELS, w, implementation="xla"), ROWS, POSITIVE[:, :].repeat(2, 1)[:1].repeat(4, 0)),
        "layer_norm": (lambda x, s, o: library.layer_norm(x, s, o, implementation="xla"), ROWS, UNIT, OTHER),
        "gated_linear_unit": (lambda x, w: library.gated_linear_unit(x, w.reshape(4, 2, 3), activation=jax.nn.silu, implementation="xla"), ROWS, np.cos(np.arange(24.0))),
        "dot_product_attention": (lambda q, k, v: library.dot_product_attention(q, k, v, implementation="xla"), heads, heads * 0.9, heads * 1.1),
        "ragged_dot": (lambda a, b: library.ragged_dot(a, b, np.int32([2, 1]), implementation="xla"), SQUARE, np.stack([SQUARE, POSITIVE])),
    })  # fmt: skip
