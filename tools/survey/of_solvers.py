"""Subjects of solvers and of heads: jaxopt, ott, e3nn, rax, lineax, optimistix, diffrax, tokamax."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from survey import subjects
from survey.of_libraries import KEY, LABELS, ROWS
from survey.subjects import IMAGE, OTHER, POSITIVE, SQUARE, TALL, UNIT, WHOLE, Subject


def _all(library: str, table: dict[str, tuple[Any, ...]]) -> Iterator[Subject]:
    for name, (function, *args) in table.items():
        yield Subject(library, f"{library}.{name}", function, tuple(args))


WIDE = np.eye(6) + 0.05 * np.cos(np.arange(36.0)).reshape(6, 6)
"""Of six unknowns, and near to the identity: iterative solvers come to their tolerance before they end exactly."""
DEFINITE, RIGHT = WIDE @ WIDE.T, np.sin(np.arange(1.0, 7))


def _quadratic(x: Any, a: Any) -> Any:
    return 0.5 * x @ POSITIVE @ x - jnp.dot(a, x) + 0.1 * jnp.sum(x**4)


def jaxopt() -> Iterator[Subject]:
    """Solvers of a small quadratic, and the functions of losses, projections and proximal operators."""
    import jaxopt as library

    start = np.zeros(3)
    solvers: dict[str, Callable[[], Any]] = {
        "GradientDescent": lambda: library.GradientDescent(_quadratic, maxiter=5), "LBFGS": lambda: library.LBFGS(_quadratic, maxiter=4),
        "BFGS": lambda: library.BFGS(_quadratic, maxiter=4), "NonlinearCG": lambda: library.NonlinearCG(_quadratic, maxiter=4),
        "PolyakSGD": lambda: library.PolyakSGD(_quadratic, maxiter=4), "ArmijoSGD": lambda: library.ArmijoSGD(_quadratic, maxiter=4),
        "GaussNewton": lambda: library.GaussNewton(lambda x, a: x - a, maxiter=3), "LevenbergMarquardt": lambda: library.LevenbergMarquardt(lambda x, a: x - a, maxiter=3),
        "FixedPointIteration": lambda: library.FixedPointIteration(lambda x, a: 0.2 * x + a, maxiter=9, tol=1e-3),
        "AndersonAcceleration": lambda: library.AndersonAcceleration(lambda x, a: 0.2 * x + a, maxiter=6, history_size=2),
        "ProximalGradient": lambda: library.ProximalGradient(lambda x, a: _quadratic(x, a), maxiter=5),
    }  # fmt: skip
    for name, make in solvers.items():
        yield Subject("jaxopt", f"jaxopt.{name}", lambda a, make=make: make().run(start, a).params, (SQUARE[0],))
    yield Subject(
        "jaxopt",
        "jaxopt.Bisection",
        lambda a: library.Bisection(lambda x, a: x**3 - a, -2, 2, tol=1e-4).run(None, a[0]).params,
        (UNIT,),
    )
    yield Subject(
        "jaxopt",
        "jaxopt.ScipyMinimize",
        lambda a: library.ScipyMinimize(fun=_quadratic).run(start, a).params,
        (SQUARE[0],),
    )
    for module in ("loss", "projection", "prox", "linear_solve", "objective"):
        rooms = getattr(library, module)
        for name in sorted(n for n in dir(rooms) if n[0].islower()):
            function = getattr(rooms, name)
            if callable(function) and getattr(function, "__module__", "").startswith("jaxopt"):
                if module == "linear_solve":
                    options = {"tol": 1e-3} if any(part in name for part in ("cg", "gmres", "refinement")) else {}
                    yield Subject(
                        "jaxopt",
                        f"jaxopt.{module}.{name}",
                        lambda a, b, f=function, o=options: f(lambda x: a @ x, b, **o),
                        (DEFINITE, RIGHT),
                    )
                elif subject := subjects.found("jaxopt", f"jaxopt.{module}.{name}", function):
                    yield subject


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


def lineax() -> Iterator[Subject]:
    """``linear_solve`` with every solver and operator."""
    import lineax as library

    tags = library.positive_semidefinite_tag
    made: dict[str, tuple[Any, Any, Any]] = {
        "AutoLinearSolver": (library.AutoLinearSolver(well_posed=True), lambda a: library.MatrixLinearOperator(a), SQUARE),
        "LU": (library.LU(), library.MatrixLinearOperator, SQUARE), "QR": (library.QR(), library.MatrixLinearOperator, TALL), "SVD": (library.SVD(), library.MatrixLinearOperator, TALL),
        "Cholesky": (library.Cholesky(), lambda a: library.MatrixLinearOperator(a, tags), POSITIVE), "CG": (library.CG(1e-3, 1e-3), lambda a: library.MatrixLinearOperator(a, tags), DEFINITE),
        "BiCGStab": (library.BiCGStab(1e-3, 1e-3), library.MatrixLinearOperator, WIDE), "GMRES": (library.GMRES(1e-3, 1e-3), library.MatrixLinearOperator, WIDE),
        "Diagonal": (library.Diagonal(), lambda a: library.DiagonalLinearOperator(jnp.diag(a)), SQUARE), "Triangular": (library.Triangular(), lambda a: library.MatrixLinearOperator(a, library.lower_triangular_tag), SQUARE),
        "Tridiagonal": (library.Tridiagonal(), lambda a: library.TridiagonalLinearOperator(jnp.diag(a), jnp.diag(a, 1), jnp.diag(a, -1)), SQUARE),
        "NormalCG": (getattr(library, "NormalCG", library.CG)(1e-3, 1e-3), lambda a: library.MatrixLinearOperator(a, tags), DEFINITE),
        "FunctionLinearOperator": (library.AutoLinearSolver(well_posed=True), lambda a: library.FunctionLinearOperator(lambda x: a @ x, jax.ShapeDtypeStruct((3,), np.float64)), SQUARE),
        "JacobianLinearOperator": (library.AutoLinearSolver(well_posed=True), lambda a: library.JacobianLinearOperator(lambda x, _: a @ jnp.sin(x), a[0]), SQUARE),
        "AutoLinearSolver (None)": (library.AutoLinearSolver(well_posed=None), library.MatrixLinearOperator, SQUARE), "AutoLinearSolver (tall)": (library.AutoLinearSolver(well_posed=None), library.MatrixLinearOperator, TALL),
    }  # fmt: skip
    for name, (solver, operator, matrix) in made.items():
        yield Subject(
            "lineax",
            f"lineax.{name}",
            lambda a, b, s=solver, o=operator: library.linear_solve(o(a), b, s).value,
            (matrix, SQUARE[0]),
        )


def optimistix() -> Iterator[Subject]:
    """Roots, fixed points, least squares, minima."""
    import optimistix as library

    def root(y: Any, a: Any) -> Any:
        return SQUARE @ y + 0.1 * y**3 - a

    def total(y: Any, a: Any) -> Any:
        return jnp.sum(root(y, a) ** 2)

    start = np.full(3, 0.1)
    roots = {
        "Newton": library.Newton(1e-6, 1e-6),
        "Chord": library.Chord(1e-6, 1e-6),
        "Dogleg": library.Dogleg(1e-6, 1e-6),
        "LevenbergMarquardt": library.LevenbergMarquardt(1e-6, 1e-6),
    }
    for name, solver in roots.items():
        yield Subject(
            "optimistix",
            f"optimistix.root_find ({name})",
            lambda a, s=solver: library.root_find(root, s, start, a).value,
            (SQUARE[0],),
        )
    yield Subject(
        "optimistix",
        "optimistix.root_find (Bisection)",
        lambda a: (
            library.root_find(
                lambda y, a: y**3 - a[0], library.Bisection(1e-4, 1e-4), 0.5, a, options={"lower": -2.0, "upper": 2.0}
            ).value
        ),
        (UNIT,),
    )
    yield Subject(
        "optimistix",
        "optimistix.fixed_point",
        lambda a: (
            library.fixed_point(
                lambda y, a: 0.2 * jnp.cos(y) + a, library.FixedPointIteration(1e-6, 1e-6), start, a
            ).value
        ),
        (SQUARE[0],),
    )
    squares = {
        "GaussNewton": library.GaussNewton(1e-6, 1e-6),
        "LevenbergMarquardt": library.LevenbergMarquardt(1e-6, 1e-6),
        "Dogleg": library.Dogleg(1e-6, 1e-6),
        "IndirectLevenbergMarquardt": library.IndirectLevenbergMarquardt(1e-6, 1e-6),
    }
    for name, solver in squares.items():
        yield Subject(
            "optimistix",
            f"optimistix.least_squares ({name})",
            lambda a, s=solver: library.least_squares(root, s, start, a).value,
            (SQUARE[0],),
        )
    minima = {
        "BFGS": library.BFGS(1e-4, 1e-4),
        "NelderMead": library.NelderMead(1e-2, 1e-2),
        "GradientDescent": library.GradientDescent(0.02, 1e-3, 1e-3),
        "NonlinearCG": library.NonlinearCG(1e-3, 1e-3),
    }
    for name, solver in minima.items():
        yield Subject(
            "optimistix",
            f"optimistix.minimise ({name})",
            lambda a, s=solver: library.minimise(total, s, start, a, throw=False).value,
            (SQUARE[0],),
        )


def diffrax() -> Iterator[Subject]:
    """A nonlinear equation by every solver, and every adjoint."""
    import diffrax as library

    term = library.ODETerm(lambda t, y, a: -jnp.sin(y) * a[:2] + t)

    def solved(a: Any, solver: Any, **options: Any) -> Any:
        return library.diffeqsolve(term, solver, 0.0, 0.4, 0.2, a[:2], args=a, max_steps=8, **options).ys

    for name in (
        "Euler",
        "Heun",
        "Midpoint",
        "Ralston",
        "Bosh3",
        "Tsit5",
        "Dopri5",
        "Dopri8",
        "ImplicitEuler",
        "Kvaerno3",
        "Kvaerno5",
        "LeapfrogMidpoint",
        "ReversibleHeun",
    ):
        controller = {"stepsize_controller": library.PIDController(1e-3, 1e-3)} if name.startswith("Kvaerno") else {}
        kind = getattr(library, name)
        yield Subject("diffrax", f"diffrax.{name}", lambda a, k=kind, c=controller: solved(a, k(), **c), (UNIT,))
    for name in ("DirectAdjoint", "RecursiveCheckpointAdjoint", "BacksolveAdjoint", "ForwardMode"):
        if (adjoint := getattr(library, name, None)) is not None:
            yield Subject(
                "diffrax",
                f"diffrax.{name}",
                lambda a, k=adjoint: solved(a, library.Tsit5(), adjoint=k()),
                (UNIT,),
            )
    yield Subject(
        "diffrax",
        "diffrax.PIDController",
        lambda a: solved(a, library.Tsit5(), stepsize_controller=library.PIDController(1e-3, 1e-3)),
        (UNIT,),
    )
    yield Subject(
        "diffrax",
        "diffrax.SaveAt",
        lambda a: solved(a, library.Tsit5(), saveat=library.SaveAt(ts=jnp.array([0.1, 0.3]))),
        (UNIT,),
    )
    yield Subject(
        "diffrax",
        "diffrax.LinearInterpolation",
        lambda a: library.LinearInterpolation(jnp.arange(4.0), a).evaluate(1.3),
        (UNIT,),
    )
    yield Subject(
        "diffrax",
        "diffrax.CubicInterpolation",
        lambda a: library.CubicInterpolation(
            jnp.arange(4.0), library.backward_hermite_coefficients(jnp.arange(4.0), a[:, None])
        ).evaluate(1.3),
        (UNIT,),
    )
    yield Subject(
        "diffrax",
        "diffrax.VirtualBrownianTree",
        lambda a: a * library.VirtualBrownianTree(0.0, 1.0, 1e-2, (), KEY).evaluate(0.3),
        (UNIT,),
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
