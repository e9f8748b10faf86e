"""§4.1.4: the geometry of squared error."""

import fractions
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax.verify._claims._tools import gradient, measured, wide
from lossjax.verify.claim import Claim, Trial, claim


def _length(x: Any) -> Any:
    return np.sqrt(np.sum(wide(x) ** 2, axis=-1))


def _inner(a: Any, b: Any) -> Any:
    return np.sum(wide(a) * wide(b), axis=-1)


def _rational(integers: Any) -> Any:
    return np.vectorize(fractions.Fraction, otypes=[object])(integers.astype(object))


def _convex_sets(trial: Trial, points: Any) -> dict[str, tuple[Any, Any]]:
    """Projections onto closed convex sets, with points of each set (the points given, made to fit)."""
    spread = np.abs(np.asarray(points, np.float64))
    return {
        "simplex": (geometry.project_to_simplex, trial.array(spread / spread.sum(axis=-1, keepdims=True))),
        "box": (lambda y: geometry.project_to_box(y, 0.0, 1.0), trial.array(np.clip(spread, 0, 1))),
        "ball": (geometry.project_to_ball, trial.array(0.999 * spread / _length(spread)[..., None])),
        "cone": (lambda y: geometry.project_to_box(y, 0.0, math.inf), trial.array(spread)),
    }


@claim(
    "4.1",
    section="4.1.4",
    statement="MSE = ‖y − ŷ‖²/N: it corresponds to the Euclidean distance of prediction and target",
    verdict="imprecise",
    correction="It is the squared distance over N, distance = √(N·MSE): the same minimisers, not the same quantity",
)
def squared_distance(trial: Trial) -> None:
    """Formula, gradient and distance over sizes and scales; doubling the distance makes MSE four times as large."""
    for size, scale in ((1, 1), (2, 1e3), (50, 1e-3), (1001, 1)):
        y, predictions = trial.normal(size, scale=scale), trial.normal(8, size, scale=scale)

        def measure(f: jax.Array, y: jax.Array) -> Any:
            mean = jax.vmap(lossjax.mean_squared_error, (0, None))
            textbook = gradient(lambda f: jax.vmap(lambda f: (y - f) @ (y - f))(f) / y.size)(f)
            return mean(f, y), gradient(mean)(f, y), textbook, mean(2 * f - y, y)

        value, slope, textbook, doubled = measured(measure, predictions, y)
        away = wide(predictions) - wide(y)
        trial.close(f"‖y - ŷ‖²/N, N = {size}", value, np.sum(away**2, axis=-1) / size, 16)
        trial.close(f"√(N·MSE) is the distance, N = {size}", np.sqrt(size * value), _length(away), 16)
        trial.close(f"gradient 2(ŷ - y)/N, N = {size}", slope, 2 * away / size, 16)
        trial.close(f"gradient of the printed form, N = {size}", textbook, 2 * away / size, 16)
        trial.exactly(f"same minimiser, N = {size}", np.argmin(value), np.argmin(_length(away)))
        trial.refuted(f"MSE at twice the distance, over MSE, N = {size}", np.min(doubled / value), 3.99)


@claim(
    "4.2",
    section="4.1.4",
    statement="All possible prediction vectors form a submanifold of R^N, the prediction space",
    verdict="needs conditions",
    correction="Only if θ ↦ ŷ(θ) is an embedding, as for linear models of full rank; (θ², θ³) is none",
)
def prediction_set(trial: Trial) -> None:
    """Ranks of ∂ŷ/∂θ: constant for a linear model; a cusp, a crossing and a corner otherwise."""
    X, thetas = trial.normal(7, 3), trial.normal(5, 3)

    def curve(theta: jax.Array) -> jax.Array:
        return jnp.stack([theta**2, theta**3])

    def loop(theta: jax.Array) -> jax.Array:
        return jnp.stack([theta**2 - 1, theta**3 - theta])

    def corner(theta: jax.Array) -> jax.Array:
        return jnp.stack([jnp.maximum(theta, 0), jnp.maximum(-theta, 0)])

    def measure(thetas: jax.Array, t: jax.Array) -> Any:
        linear = jax.vmap(jax.jacfwd(lambda theta: X @ theta))(thetas)
        of_curves = [(jax.vmap(f)(t), jax.vmap(jax.jacfwd(f))(t)) for f in (curve, loop, corner)]
        return linear, of_curves

    t = trial.array([-1, -1e-3, 0, 1e-3, 1])
    linear, ((cusp, cusp_slope), (crossing, crossing_slope), (_, corner_slope)) = measured(measure, thetas, t)
    trial.exactly("rank of a linear model", [np.linalg.matrix_rank(j) for j in linear], np.full(5, 3))
    trial.exactly("cusp: rank of ∂ŷ/∂θ", np.any(cusp_slope != 0, axis=-1), np.array([1, 1, 0, 1, 1], bool))
    directions = cusp[[1, 3]] / np.linalg.norm(cusp[[1, 3]], axis=-1, keepdims=True)
    trial.refuted("cusp: both branches leave in one direction, cosine", directions[0] @ directions[1], 0.999)
    trial.exactly("crossing: ŷ(-1) = ŷ(1)", crossing[0], crossing[4])
    across = crossing_slope[0, 0] * crossing_slope[4, 1] - crossing_slope[0, 1] * crossing_slope[4, 0]
    trial.refuted("crossing: area spanned by the two tangents there", abs(across), 1)
    turn = np.degrees(np.arccos(corner_slope[0] @ corner_slope[4]))
    trial.refuted("corner: turn between the two sides, in degrees", turn, 89)


@claim(
    "4.3",
    section="4.1.4",
    statement="The optimum is ŷ* = arg min over ŷ ∈ S of ‖y − ŷ‖",
    verdict="needs conditions",
    correction="S closed and not empty: a minimiser exists; S convex as well: it is the only one",
)
def nearest_point(trial: Trial) -> None:
    """Nearest and unique on convex sets, ‖y - x‖² ≥ ‖y - P‖² + ‖P - x‖²; an open and a curved set."""
    y, points = trial.normal(40, 5, scale=2), trial.normal(40, 5)
    for name, (project, members) in _convex_sets(trial, points).items():
        p = measured(project, y)
        trial.close(f"{name}: P(x) = x on the set", measured(project, members), np.asarray(members), 8, scale=1)
        apart, best, between = (_length(wide(a) - wide(b)) ** 2 for a, b in ((y, members), (y, p), (members, p)))
        nearer = np.max((best + between - apart) / apart)
        trial.at_most(f"{name}: how much nearer any point is, in u", nearer / trial.u, 16)
    interval = trial.array(1 - 2.0 ** -np.arange(1, 20))
    distances = 2 - np.asarray(interval)
    approached = np.all(np.diff(distances) < 0) and np.all(distances > 1)
    trial.happens("open interval: ever nearer, never at the infimum 1", approached, refutes=True)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.asarray(trial.array(np.stack([np.cos(angles), np.sin(angles)], axis=-1)))
    trial.close("circle around y: every point is nearest", _length(circle).astype(trial.dtype), np.ones(12), 4)
    trial.refuted("distance between two of these minimisers", np.linalg.norm(circle[0] - circle[6]), 1.99)


@claim(
    "4.4",
    section="4.1.4",
    statement="For a convex prediction set, (y − ŷ*)ᵀ(ŷ − ŷ*) = 0 for every ŷ ∈ S",
    verdict="wrong",
    correction="≤ 0 (the variational inequality) for closed convex S; = 0 for every y if and only if S is affine",
)
def variational_inequality(trial: Trial) -> None:
    """Equality on an affine set, inequality on four convex ones, and the square where equality fails by 1."""
    X, base, y = trial.normal(9, 3), trial.normal(9, scale=2), trial.normal(9, scale=3)
    members = wide(base) + wide(trial.normal(30, 3)) @ wide(X).T
    best = wide(base) + measured(geometry.orthogonal_projection, X, y - base)
    error = wide(y) - best
    scale = _length(wide(y) - wide(base)) * _length(members - best)
    trial.at_most("affine: |inner product|, in u", np.max(np.abs(_inner(error, members - best)) / scale) / trial.u, 64)
    trial.refuted("affine, not through 0: |eᵀŷ|, so e is not ⟂ S", np.max(np.abs(_inner(error, members))), 1)

    y, points = trial.normal(40, 5, scale=2), trial.normal(40, 5)
    for name, (project, members) in _convex_sets(trial, points).items():
        p = measured(project, y)
        error = wide(y) - p
        inner = _inner(error[:, None], wide(members) - wide(p)[:, None])
        scale = _length(y)[:, None] * (_length(error)[:, None] + _length(wide(members) - wide(p)[:, None]))
        trial.at_most(f"{name}: largest inner product, in u", np.max(inner / scale) / trial.u, 16)
        trial.refuted(f"{name}: inner products reach minus", -np.min(inner), 0.1)
        if name == "cone":
            trial.at_most("cone: eᵀŷ* = 0, in u", np.max(np.abs(_inner(error, p)) / _length(y) ** 2) / trial.u, 16)
    corner = trial.array([2, 0.5])
    nearest = measured(lambda y: geometry.project_to_box(y, 0.0, 1.0), corner)
    trial.exactly("square: ŷ*", nearest, np.array([1, 0.5]))
    others = np.array([[0, 0], [0, 0.5], [0, 1.0]])
    inner = _inner(wide(corner) - nearest, others - nearest)
    trial.refuted("square: inner product at ŷ = (0, ·), not 0 but -1", -np.max(inner), 1)


@claim(
    "4.1.3",
    section="4.1.4",
    statement="The optimal prediction is the orthogonal projection of the target onto the prediction space",
    verdict="needs conditions",
    correction="S affine: the orthogonal one; S closed convex: the metric projection; else e ⟂ T S is only necessary",
)
def optimum_is_projection(trial: Trial) -> None:
    """Normal equations and Pythagoras, derivatives of the distance, and the circle, where e ⟂ T S is a maximum."""
    X, y, thetas = trial.normal(31, 4), trial.normal(31, scale=3), trial.normal(20, 4)

    def measure(X: jax.Array, y: jax.Array, thetas: jax.Array) -> Any:
        theta = geometry.least_squares(X, y)
        best = geometry.orthogonal_projection(X, y)
        error = jax.vmap(lossjax.mean_squared_error, (0, None))
        slope = jax.grad(lambda theta: jnp.mean((y - X @ theta) ** 2))(theta)
        return best, error(thetas @ X.T, y), error(best[None], y)[0], slope

    best, others, least, slope = measured(measure, X, y, thetas)
    size = np.linalg.norm(X) * np.linalg.norm(y)
    trial.at_most("‖Xᵀe‖, in u", _length(wide(X).T @ (wide(y) - best)) / size / trial.u, 256)
    trial.at_most("JAX's gradient of MSE there, in u", 31 / 2 * _length(slope) / size / trial.u, 256)
    parts = least + np.mean((wide(thetas) @ wide(X).T - best) ** 2, axis=-1)
    trial.close("Pythagoras: MSE(ŷ) = MSE(ŷ*) + ‖ŷ - ŷ*‖²/N", others, parts, 64)
    trial.happens("no other is as near", np.all(others > least))

    y, points = trial.normal(30, 5, scale=2), trial.normal(30, 5)
    for name, (project, _) in _convex_sets(trial, points).items():
        p, slope = measured(lambda y, f=project: (f(y), gradient(lambda y: 0.5 * jnp.sum((y - f(y)) ** 2, -1))(y)), y)
        trial.close(f"{name}: ∇½dist² = y - P(y)", slope, wide(y) - p, 16, scale=1 + np.abs(y))

    target, far, near = np.array([0.5, 0]), np.array([-1.0, 0]), np.array([1.0, 0])

    def on_circle(t: jax.Array) -> jax.Array:
        return jnp.stack([jnp.cos(t), jnp.sin(t)])

    velocity = jax.jacfwd(on_circle)
    point, tangent, bend = measured(
        lambda t: (on_circle(t), velocity(t), jax.jacfwd(velocity)(t)), trial.array(math.pi)
    )
    error = target.astype(trial.dtype) - point
    trial.at_most("circle: e ⟂ T S at (-1, 0), in u", abs(float(error @ tangent)) / trial.u, 16)
    farther = np.linalg.norm(target - far) - np.linalg.norm(target - near)
    trial.refuted("circle: yet it is farther than (1, 0), by", farther, 0.99)
    trial.refuted("circle: ⟨e, II(v, v)⟩ there, 1 at most at a minimum", float(error @ bend), 1.49)


@claim(
    "4.6",
    section="4.1.4",
    statement="The least squares estimate is θ̂ = (XᵀX)⁻¹Xᵀy, with prediction ŷ = Xθ̂ = Py",
    verdict="needs conditions",
    correction="If rank X = d; in general θ̂ ∈ X⁺y + ker X and ŷ = XX⁺y is unique (and never by XᵀX in floats)",
)
def least_squares_estimate(trial: Trial) -> None:
    """Exact rationals for full rank, a repeated column, and Läuchli's matrix, whose rounded XᵀX is singular."""
    X, y = trial.random.integers(-9, 10, size=(7, 3)), trial.random.integers(-9, 10, size=7)
    gram, right = _rational(X).T @ _rational(X), _rational(X).T @ _rational(y)
    minor = [np.delete(np.delete(gram, i, 0), j, 1) for i in range(3) for j in range(3)]
    signed = [(-1) ** k * (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) for k, m in enumerate(minor)]
    cofactor = np.array(signed, object).reshape(3, 3)  # of a symmetric matrix: Cramer's rule
    exact = (cofactor @ right / (gram[0] @ cofactor[0])).astype(np.float64)
    design, targets, direction = trial.array(X), trial.array(y), trial.normal(3)
    condition = float(np.linalg.cond(X.astype(float)))

    def textbook(X: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.linalg.solve(jnp.matmul(X.T, X, precision="highest"), X.T @ y)

    def fit(X: jax.Array, y: jax.Array) -> Any:
        return geometry.least_squares(X, y), geometry.orthogonal_projection(X, y)

    def slopes(X: jax.Array, y: jax.Array) -> Any:
        functions = geometry.least_squares, textbook
        return [jax.grad(lambda X, y, f=f: direction @ f(X, y), (0, 1))(X, y) for f in functions]

    # An error of u in X moves θ̂ by up to κ(1 + κ‖e‖/(‖X‖‖θ̂‖)) u relatively: κ² in general, as for (XᵀX)⁻¹.
    size = np.linalg.norm(y)
    theta, prediction = measured(fit, design, targets)
    trial.close("θ̂ against rationals", theta, exact, 64 * condition**2, scale=np.abs(exact).max())
    trial.close("ŷ = Xθ̂", prediction, X @ exact, 64 * condition, scale=size)

    twice = np.concatenate([X, X[:, :1]], axis=1)
    theta, prediction = measured(fit, trial.array(twice), targets)
    trial.close("repeated column: ŷ = XX⁺y, as before", prediction, X @ exact, 64 * condition, scale=size)
    trial.close("repeated column: X⁺y shares equally", theta[0], theta[3], 64 * condition, scale=np.abs(exact).max())
    moved = wide(theta) + np.array([1, 0, 0, -1])
    trial.at_most("repeated column: X⁺y + ker X predicts the same, in u", np.max(np.abs(twice @ (moved - theta))), 0)
    gram = _rational(twice).T @ _rational(twice)
    trial.happens("repeated column: XᵀX has a kernel, no inverse", np.all(gram @ [1, 0, 0, -1] == 0), refutes=True)

    small = 2.0 ** np.floor(np.log2(math.sqrt(trial.u) / 4))
    laeuchli = trial.array([[1, 1], [small, 0], [0, small]])

    def on_laeuchli(X: jax.Array) -> Any:
        gram = jnp.matmul(X.T, X, precision="highest")
        determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] * gram[1, 0]
        return determinant, geometry.least_squares(X, X @ jnp.asarray([1, 2], X.dtype))

    determinant, theta = measured(on_laeuchli, laeuchli)
    trial.happens("Läuchli: det fl(XᵀX) is 0, though rank X = 2", determinant == 0, refutes=True)
    # y = X(1, 2) lies in the column space: κ once, κ = √2/ε.
    trial.close("Läuchli: θ̂ from X itself", theta, np.array([1.0, 2.0]), 64 * math.sqrt(2) / small)

    for name, got, want in zip(("X", "y"), *measured(slopes, design, targets), strict=True):
        trial.close(f"gradient in {name}, as by (XᵀX)⁻¹", got, want, 64 * condition**2, scale=np.abs(want).max())


@claim("4.7", section="4.1.4", statement="The projection matrix P is idempotent and symmetric: P² = P, Pᵀ = P")
def projection_matrix(trial: Trial) -> None:
    """For full rank, less than that, and more columns than rows; trace, range; and two other matrices."""
    for rows, columns, rank in ((40, 5, 5), (40, 5, 3), (4, 7, 4)):
        X = trial.array(trial.random.normal(size=(rows, rank)) @ trial.random.normal(size=(rank, columns)))
        y = trial.normal(rows, scale=3)
        case = f"{rows} by {columns} of rank {rank}"
        P, fitted = measured(lambda X, y: (geometry.projection_matrix(X), geometry.orthogonal_projection(X, y)), X, y)
        trial.close(f"P² = P, {case}", P, wide(P) @ wide(P), 64, scale=1)
        trial.close(f"Pᵀ = P, {case}", P, P.T, 64, scale=1)
        trial.close(f"tr P = rank, {case}", np.trace(P), np.float64(rank), 64)
        size = np.linalg.norm(X)
        trial.at_most(f"PX = X, {case}, in u", np.max(np.abs(wide(P) @ wide(X) - wide(X))) / size / trial.u, 64)
        trial.close(f"ŷ = Py, {case}", fitted, wide(P) @ wide(y), 64, scale=np.linalg.norm(y))
        error = _length(wide(X).T @ (wide(y) - fitted)) / (size * np.linalg.norm(y))
        trial.at_most(f"‖Xᵀe‖, {case}, in u", error / trial.u, 256)
        eigenvalues = np.linalg.eigvalsh(P.astype(np.float64))
        expected = np.repeat([0, 1], [rows - rank, rank])
        trial.at_most(f"eigenvalues 0 and 1, {case}, in u", np.max(np.abs(eigenvalues - expected)) / trial.u, 64)
    X, weights = np.asarray(trial.normal(9, 2), np.float64), np.diag(np.arange(1.0, 10))
    ridge = X @ np.linalg.solve(X.T @ X + np.eye(2), X.T)
    weighted = X @ np.linalg.solve(X.T @ weights @ X, X.T @ weights)
    trial.refuted("not so for ridge regression, |H² - H|", np.max(np.abs(ridge @ ridge - ridge)), 0.01)
    trial.at_most("weighted least squares, |P² - P|", np.max(np.abs(weighted @ weighted - weighted)), 1e-12)
    trial.refuted("not so for weighted least squares, |P - Pᵀ|", np.max(np.abs(weighted - weighted.T)), 0.01)


CLAIMS: tuple[Claim, ...] = (
    squared_distance,
    prediction_set,
    nearest_point,
    variational_inequality,
    optimum_is_projection,
    least_squares_estimate,
    projection_matrix,
)
