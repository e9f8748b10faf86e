"""§4.1.5: the geometry that divergences induce, and table 4.1.1."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb

import lossjax
from lossjax import geometry
from lossjax.verify import oracle
from lossjax.verify._claims._tools import exact_softmax, interior, measured, wide
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls

KL = geometry.NegativeEntropy()


@claim(
    "5.8",
    section="4.1.5",
    statement="On the simplex KL defines an asymmetric Riemannian metric",
    verdict="wrong",
    correction="A metric is symmetric: KL(p‖p+δ), KL(p+δ‖p) share ½Σδ²/p and first differ by −Σδ³/(6p²)",
)
def metric_is_symmetric(trial: Trial) -> None:
    """Both orders of arguments have one Hessian; the difference is of third order, exactly and in floats."""
    with oracle.precision():
        p, v = balls([2, 3, 5]) / arb(10), balls([1, 2, -3])
        epsilon = arb(10) ** -9
        ahead, back = (oracle.kl_divergence(*pair) for pair in ((p, p + epsilon * v), (p + epsilon * v, p)))
        cubic = float((ahead - back) / epsilon**3)
        square = epsilon**2 * oracle.total(v * v / p) / 2
        ratios = float(ahead / square), float(back / square)
    trial.at_most("|(KL - KL')/ε³ + Σv³/(6p²)|", abs(cubic + (25 + 800 / 9 - 108) / 6), 1e-6)
    trial.refuted("so KL is not symmetric: |KL - KL'|/ε³", abs(cubic), 0.98)
    trial.at_most("|KL/(½ds²) - 1| in both orders, over ε", max(abs(r - 1) for r in ratios) / 1e-9, 0.11)

    point, velocity = trial.array([0.25, 0.25, 0.5]), np.array([1.0, 2, -3])
    steps = 2.0 ** -np.arange(4, 10)[:, None]
    moved = trial.array(np.array([0.25, 0.25, 0.5]) + steps * velocity)

    def measure(point: jax.Array, moved: jax.Array) -> Any:
        fixed = jnp.broadcast_to(point, moved.shape)
        both = lossjax.kl_divergence(fixed, moved), lossjax.kl_divergence(moved, fixed)
        return both, [jax.hessian(lossjax.kl_divergence, order)(point, point) for order in (1, 0)]

    (ahead, back), (in_q, in_p) = measured(measure, point, moved)
    with oracle.precision():
        fixed = np.broadcast_to(balls(point), moved.shape)
        for name, got, pair in (("p‖p+δ", ahead, (fixed, balls(moved))), ("p+δ‖p", back, (balls(moved), fixed))):
            exact = np.array([float(x) for x in oracle.kl_divergence(*pair)])
            trial.close(f"KL({name})", got, exact, 33)
    asymmetry = np.abs(wide(ahead) - back) / (wide(ahead) + back)
    trial.at_most("asymmetry over δ: of higher order", np.max(asymmetry / steps[:, 0]), 1)
    trial.close("the metric from either order", in_q, in_p, 8)
    trial.exactly("the metric is symmetric", in_q, in_q.T)
    trial.happens("so no metric is asymmetric", np.all(in_p == in_p.T), refutes=True)


@claim(
    "5.9",
    section="4.1.5",
    statement="The information distance of adjacent distributions is ds² = dqᵀ I(p) dq",
    verdict="imprecise",
    correction="ds² = Σ dp²/p is the squared length (Σdp = 0, p in Δ°); KL = ½ds² + O(|dp|³), and d_FR²/2 likewise",
)
def line_element(trial: Trial) -> None:
    """KL over ds² tends to ½, Fisher-Rao's distance squared over ds² to 1, and KL over half of that to 1."""
    p = interior(trial, 20, 4)
    directions = wide(trial.normal(20, 4))
    directions = directions - np.mean(directions, axis=-1, keepdims=True)
    directions = directions / np.sqrt(np.sum(directions**2 / wide(p), axis=-1, keepdims=True))  # ds = ε
    start = wide(p)
    for epsilon in (1e-2, 1e-3):
        q = trial.array(start + epsilon * directions)
        kl, distance, quadratic = measured(_lengths, p, q)
        # |KL/ds² - ½| ≤ ⅓Σ|dp|³/p²/ds² (1 + …) ≤ ½ε max p^-½; then what rounding q leaves of ds², u max p/ε.
        bound = 0.5 * epsilon * np.max(start**-0.5) + 8 * trial.u / epsilon
        exact = np.sum((wide(q) - start) ** 2 / start, axis=-1)
        trial.close(f"ds² by the Fisher matrix, {epsilon:g}", quadratic, exact, 16)
        trial.at_most(f"KL/ds² - ½, {epsilon:g}", np.max(np.abs(kl / quadratic - 0.5)), float(bound))
        trial.at_most(f"d²/ds² - 1, {epsilon:g}", np.max(np.abs(distance**2 / quadratic - 1)), 2 * float(bound))
        trial.at_most(f"KL/(d²/2) - 1, {epsilon:g}", np.max(np.abs(2 * kl / distance**2 - 1)), 2 * float(bound))
        trial.refuted(f"KL is not ds²: |KL/ds² - 1|, {epsilon:g}", np.min(np.abs(kl / quadratic - 1)), 0.48)


def _lengths(p: jax.Array, q: jax.Array) -> Any:
    """KL, the Fisher-Rao distance, and dpᵀ diag(1/p) dp."""
    step = q - p
    matrix = geometry.fisher_information(p, "ambient")
    quadratic = jnp.einsum("ki,kij,kj->k", step, matrix, step, precision="highest")
    return lossjax.kl_divergence(p, q), geometry.fisher_rao_distance(p, q), quadratic


@claim(
    "5.10",
    section="4.1.5",
    statement="The Fisher matrix is I(p) = E_p[∇log p(x) ∇log p(x)ᵀ]",
    verdict="imprecise",
    correction="∇ is in parameters: logits J(p), means diag(1/θ) + 11ᵀ/p_n, natural J's minor; in ambient p no score",
)
def fisher_matrices(trial: Trial) -> None:
    """Expectations of scores, by JAX's derivatives, in four systems; how the matrices are related."""
    p = interior(trial, 12, 4)

    def measure(p: jax.Array) -> Any:
        z = geometry.centered_log_ratio(p)

        def of_mean(theta: jax.Array) -> jax.Array:
            return jnp.log(jnp.append(theta, 1 - jnp.sum(theta)))

        def of_natural(theta: jax.Array) -> jax.Array:
            return lossjax.log_softmax(jnp.append(theta, jnp.zeros(1, p.dtype)))

        systems = (lossjax.log_softmax, z), (of_mean, p[:, :-1]), (of_natural, z[:, :-1] - z[:, -1:]), (jnp.log, p)
        scores = [jax.vmap(jax.jacfwd(f))(x) for f, x in systems]
        sums = [jnp.einsum("kx,kxi,kxj->kij", p, s, s, precision="highest") for s in scores]
        means = [jnp.einsum("kx,kxi->ki", p, s, precision="highest") for s in scores]
        matrices = [geometry.fisher_information(p, name) for name in ("logits", "mean", "natural", "ambient")]
        return sums, means, matrices

    sums, means, matrices = measured(measure, p)
    q = wide(p)
    logits = np.eye(4) * q[..., None] - q[..., :, None] * q[..., None, :]
    mean = np.eye(3) / q[:, None, :-1] + 1 / q[:, -1:, None]
    exact = logits, mean, logits[:, :-1, :-1], np.eye(4) / q[..., None]
    names = "logits", "mean", "natural", "ambient"
    for name, by_sum, score, matrix, truth in zip(names, sums, means, matrices, exact, strict=True):
        size = np.max(np.abs(truth))
        trial.close(f"{name}: the library's matrix", matrix, truth, 8)
        trial.close(f"{name}: E[∇log p ∇log pᵀ]", by_sum, truth, 64, scale=size)
        if name == "ambient":
            trial.refuted("ambient: mean of the 'score', 0 for a score", np.min(score), 1 - 16 * trial.u)
        else:
            trial.at_most(f"{name}: mean of the score, in u", np.max(np.abs(score)) / trial.u, 64)
    of_logits, of_mean, of_natural, of_ambient = (wide(m) for m in matrices)
    trial.at_most("logits: J1 = 0, in u", np.max(np.abs(of_logits.sum(axis=-1))) / trial.u, 16)
    determinants = np.linalg.det(of_mean.astype(np.float64))
    condition = np.max(np.linalg.cond(of_mean.astype(np.float64)))
    product = determinants * np.prod(q, axis=-1)
    trial.at_most("mean: det·∏p - 1, in u", np.max(np.abs(product - 1)) / trial.u, 16 * condition)
    inverse = np.max(np.abs(of_mean @ of_natural - np.eye(3)))
    trial.at_most("mean·natural = 1: dual coordinates, in u", inverse / trial.u, 16 * condition)
    pulled = of_logits @ of_ambient @ of_logits
    trial.at_most("J diag(1/p) J = J, in u", np.max(np.abs(pulled - of_logits)) / trial.u, 64)


def _side_by_side(x: jax.Array) -> jax.Array:
    """Metrics: samples of 3, 3 and 6 classes, Gaussians in (μ, σ), a surface of variable curvature, the plane."""

    def simplex(theta: jax.Array) -> jax.Array:
        return geometry.fisher_information(jnp.append(theta, 1 - jnp.sum(theta)), "mean")

    one = jnp.ones((), x.dtype)
    gaussian = jnp.diag(jnp.stack([one, 2 * one]) / x[10] ** 2)
    surface = jnp.diag(jnp.stack([one, (1 + x[11] ** 2) ** 2]))
    plane = jnp.eye(2, dtype=x.dtype)
    samples = jax.vmap(simplex)(x[:4].reshape(2, 2))
    return jax.scipy.linalg.block_diag(*samples, simplex(x[4:9]), gaussian, surface, plane)


def _curvatures(x: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    return geometry.sectional_curvature(_side_by_side, x, u, v)


def _curvatures_side_by_side(trial: Trial) -> tuple[dict[str, Any], Any, float]:
    """Curvatures of random planes in each part and between two, the surface's coordinate, and the error allowed.

    The error: 64u times the metric's condition, max 1/p up to a factor, for K is a quotient of its entries and of
    their derivatives.
    """
    three, six = np.asarray(interior(trial, 20, 3)), np.asarray(interior(trial, 20, 6))
    spread = np.stack([np.linspace(-2, 2, 20), np.linspace(0.5, 2, 20)], axis=-1)
    points = np.concatenate([three[:, :2], three[::-1, :2], six[:, :5], spread, spread, spread], axis=-1)
    parts = {
        "3 classes": [0, 1],
        "another sample": [2, 3],
        "6 classes": [4, 5, 6, 7, 8],
        "Gaussians": [9, 10],
        "the surface": [11, 12],
        "the plane": [13, 14],
    }
    planes = trial.random.normal(size=(2, len(parts) + 1, 20, 15))
    for k, where in enumerate(parts.values()):
        planes[:, k, :, np.setdiff1d(np.arange(15), where)] = 0
    planes[0, -1], planes[1, -1] = np.eye(15)[0], np.eye(15)[2]
    x = np.broadcast_to(points, planes.shape[1:])
    values = measured(_curvatures, *(trial.array(a) for a in (x, *planes)))
    return (
        dict(zip([*parts, "across samples"], values, strict=True)),
        points[:, 11],
        64 * trial.u * float(1 / min(three.min(), six.min())),
    )


@claim("5.11", section="4.1.5", statement="This structure reflects the intrinsic curvature of the distributions' space")
def intrinsic_curvature(trial: Trial) -> None:
    """Levi-Civita's connection is curved, by 1/4; the two that KL carries are flat in their own coordinates."""
    p = interior(trial, 6, 4)

    def measure(p: jax.Array) -> Any:
        def of_natural(theta: jax.Array) -> jax.Array:
            z = jnp.append(theta, jnp.zeros(1, p.dtype))
            return z - jnp.log(jnp.sum(jnp.exp(z)))

        def of_mean(theta: jax.Array) -> jax.Array:
            return jnp.log(jnp.append(theta, 1 - jnp.sum(theta)))

        def connections(log_p: Any, theta: jax.Array) -> Any:
            score, bend = (jax.vmap(f)(theta) for f in (jax.jacfwd(log_p), jax.jacfwd(jax.jacfwd(log_p))))
            outer = score[..., :, None] * score[..., None, :]
            mixed = [bend + a * outer for a in (0, 0.5, 1)]
            return [jnp.einsum("kx,kxij,kxl->kijl", p, m, score, precision="highest") for m in mixed]

        return connections(of_natural, jnp.log(p[:, :-1] / p[:, -1:])), connections(of_mean, p[:, :-1])

    natural, mean = measured(measure, p)
    largest = np.max(np.abs(mean[1]))
    trial.at_most("exponential connection in natural coordinates, in u", np.max(np.abs(natural[0])) / trial.u, 64)
    trial.at_most("mixture connection in mean coordinates, in u", np.max(np.abs(mean[2])) / largest / trial.u, 64)
    trial.refuted("Levi-Civita's in natural coordinates", np.max(np.abs(natural[1])), 0.01)
    trial.refuted("Levi-Civita's in mean coordinates", largest, 1)
    curvatures, _, error = _curvatures_side_by_side(trial)
    trial.at_most("|K - 1/4| of Levi-Civita's", np.max(np.abs(curvatures["6 classes"] - 0.25)), error)


@claim(
    "Table 4.1.1",
    section="4.1.5",
    statement="MSE: distance, constant curvature, orthogonal projection; CE: KL, variable, information projection",
    verdict="wrong",
    correction="MSE: ½‖y − ŷ‖², K = 0; CE: (Δ°)^N, H(P) + KL, constant K = +1/4 a factor (C ≥ 3), reverse I-projection",
)
def geometries(trial: Trial) -> None:
    """Curvatures, the area of the sphere's octant, divergences and projections, column by column."""
    curvatures, coordinate, error = _curvatures_side_by_side(trial)
    for name in ("3 classes", "another sample", "6 classes"):
        trial.at_most(f"|K - 1/4| of CE, {name}", np.max(np.abs(curvatures[name] - 0.25)), error)
    trial.happens("so K of CE is constant", np.ptp(curvatures["6 classes"]) <= 2 * error, refutes=True)
    trial.at_most("K across samples", np.max(np.abs(curvatures["across samples"])), error)
    trial.exactly("K of MSE", curvatures["the plane"], np.zeros(20))
    trial.at_most("the measure itself: |K + ½| of Gaussians", np.max(np.abs(curvatures["Gaussians"] + 0.5)), error)
    bent = -2 / (1 + coordinate**2)
    trial.at_most("and of a surface of variable curvature", np.max(np.abs(curvatures["the surface"] - bent)), error)
    # Gauss-Bonnet: an octant has three right angles, excess π/2, so K = (π/2)/area; with ξ = 2√p the area is 2π.
    nodes, weights = np.polynomial.legendre.leggauss(24)
    a, b = (x.ravel() for x in np.meshgrid(*[np.pi / 4 * (nodes + 1)] * 2))
    octant = trial.array(np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], axis=-1) ** 2)
    matrix = measured(lambda p: geometry.fisher_information(p, "mean"), octant).astype(np.float64)
    jacobian = 4 * np.sin(a) ** 3 * np.cos(a) * np.sin(b) * np.cos(b)
    element = np.sqrt(matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] ** 2) * jacobian
    area = np.sum(element * np.outer(weights, weights).ravel()) * (np.pi / 4) ** 2
    trial.at_most("|(π/2)/area - 1/4|", abs(np.pi / 2 / area - 0.25), 64 * trial.u)
    y, f = trial.normal(30), trial.normal(30)

    def divergences(y: jax.Array, f: jax.Array) -> Any:
        square, nll = geometry.SquaredEuclidean(), lossjax.gaussian_nll
        gauss = jnp.sum(nll(f, y, log_variance=0.0) - nll(y, y, log_variance=0.0))
        return geometry.bregman_divergence(square, y, f), geometry.bregman_divergence(square, f, y), gauss

    half, swapped, gauss = measured(divergences, y, f)
    trial.close("divergence of MSE: ½‖y - ŷ‖², symmetric", half, swapped, 8)
    trial.close("KL of Gaussians with mean y and ŷ", gauss, half, 64)
    trial.refuted("not the distance: off it by", abs(half - np.linalg.norm(wide(y) - wide(f))), 1)
    _projections(trial)


def _projections(trial: Trial) -> None:
    """On q ∝ exp(h + λT) arg min KL(p‖q) matches moments and obeys Pythagoras; arg min KL(q‖p) is another point."""
    p, base, statistic = trial.array([0.5, 0.3, 0.15, 0.05]), trial.array([0, 1, 0, 2]), trial.array([1, 2, 3, 4])

    def minimiser(slope: Any) -> jax.Array:
        """The zero of an increasing function of λ, by bisection in extended precision."""
        low, high = np.longdouble(-9), np.longdouble(9)
        for _ in range(70):
            middle = (low + high) / 2
            q = exact_softmax(wide(base) + middle * wide(statistic))
            low, high = (low, middle) if slope(q) > 0 else (middle, high)
        return trial.array(low)

    def covariance(q: Any) -> Any:  # d KL(q‖p)/dλ = Cov_q(T, log(q/p))
        ratio = np.log(q / wide(p))
        return np.sum(q * (wide(statistic) - np.sum(q * wide(statistic))) * ratio)

    at = minimiser(lambda q: np.sum((q - wide(p)) * wide(statistic)))
    of_reverse = minimiser(covariance)

    def measure(p: jax.Array, at: jax.Array, of_reverse: jax.Array, others: jax.Array) -> Any:
        def model(t: jax.Array) -> jax.Array:
            return lossjax.softmax(base + t[..., None] * statistic)

        forward = jax.value_and_grad(lambda t: lossjax.kl_divergence(p, model(t)))(at)
        reverse = jax.grad(lambda t: lossjax.kl_divergence(model(t), p))(of_reverse)
        family = model(others)
        whole = lossjax.kl_divergence(jnp.broadcast_to(p, family.shape), family)
        rest = lossjax.kl_divergence(jnp.broadcast_to(model(at), family.shape), family)
        return model(at), model(of_reverse), whole, forward[0], rest, (forward[1], reverse)

    others = trial.array(np.linspace(-3, 1, 21))
    best, of_reverse, whole, least, rest, slopes = measured(measure, p, at, of_reverse, others)
    moments = abs(np.sum(wide(best) * wide(statistic)) - np.sum(wide(p) * wide(statistic)))
    trial.at_most("CE's projection matches moments, in u", moments / trial.u, 64)
    trial.close("CE's projection obeys Pythagoras", whole, wide(least) + rest, 64, scale=1 + whole)
    trial.at_most("both are stationary, in u", np.max(np.abs(slopes)) / trial.u, 64)
    trial.refuted("the information projection is another point, ‖·‖₁ apart", np.sum(np.abs(best - of_reverse)), 0.01)


CLAIMS: tuple[Claim, ...] = (
    metric_is_symmetric,
    line_element,
    fisher_matrices,
    intrinsic_curvature,
    geometries,
)
