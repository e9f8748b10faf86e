"""Subjects of solvers: jaxopt, lineax, optimistix, diffrax."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from survey import subjects
from survey.of_libraries import KEY
from survey.subjects import POSITIVE, SQUARE, TALL, UNIT, Subject

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
            (matrix, RIGHT[: len(matrix)]),
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
