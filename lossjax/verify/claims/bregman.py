"""§4.1.5: divergences on the simplex, and the geometry that they induce."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flint import arb

import lossjax
from lossjax import geometry
from lossjax.verify import oracle
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.claims.softmax import exact_softmax, gradient, measured, wide
from lossjax.verify.ulp import balls

KL = geometry.NegativeEntropy()


def _relative_entropy(p: Any, q: Any) -> Any:
    """Σ p log(p/q) as printed, in extended precision, for positive entries."""
    return np.sum(wide(p) * np.log(wide(p) / wide(q)), axis=-1)


def _interior(trial: Trial, *shape: int) -> jax.Array:
    """Distributions whose entries are at least a quarter of uniform."""
    return trial.array(0.75 * trial.random.dirichlet(np.ones(shape[-1]), size=shape[:-1]) + 0.25 / shape[-1])


@claim(
    "5.1",
    section="4.1.5",
    statement="On the simplex, cross-entropy is a special form of Bregman divergence",
    verdict="wrong",
    correction="CE(p, p) = H(p), not 0; CE = H(p) + D_φ(p, q), a Bregman divergence for one-hot p alone",
)
def cross_entropy_is_no_divergence(trial: Trial) -> None:
    """CE(p, p) is the entropy; what is left of CE beside it is the divergence."""
    p, q = trial.simplex(50, 5, concentration=2.0), trial.simplex(50, 5, concentration=2.0)
    hot = trial.array(np.eye(5)[np.arange(50) % 5])

    def measure(p: jax.Array, q: jax.Array, hot: jax.Array) -> Any:
        cross, entropy = lossjax.cross_entropy, lossjax.entropy(p)
        own, divergence = cross(p, p), geometry.bregman_divergence(KL, p, q)
        return own, entropy, cross(p, q), divergence, cross(hot, q), geometry.bregman_divergence(KL, hot, q)

    own, entropy, cross, divergence, of_hot, divergence_of_hot = measured(measure, p, q, hot)
    trial.close("CE(p, p) = H(p)", own, entropy, 16)
    trial.refuted("least CE(p, p), 0 for a divergence", np.min(own), 0.41)
    trial.close("CE = H(p) + D_φ(p, q)", cross, wide(entropy) + divergence, 32)
    trial.close("CE = D_φ for one-hot p", of_hot, divergence_of_hot, 32, scale=1 + of_hot)


@claim(
    "5.2",
    section="4.1.5",
    statement="Unlike Euclidean distance, KL induces a Riemannian geometry, whose metric tensor is the Fisher matrix",
    verdict="imprecise",
    correction="Both are Riemannian at second order: MSE flat, Fisher spherical; KL's third order is a dual flat pair",
)
def both_are_riemannian(trial: Trial) -> None:
    """Hessians of both divergences, third derivatives that differ, and KL as canonical divergence of a flat pair."""
    p, q, v = _interior(trial, 10, 4), _interior(trial, 10, 4), trial.normal(10, 4)

    def measure(p: jax.Array, q: jax.Array, v: jax.Array) -> Any:
        def square(p: jax.Array, q: jax.Array) -> jax.Array:
            return geometry.bregman_divergence(geometry.SquaredEuclidean(), p, q)

        def third(f: Any) -> jax.Array:
            along = jax.grad(jax.grad(jax.grad(f)))
            return jax.vmap(along, (None, 0, 0))(jnp.zeros((), p.dtype), p, v)

        hessians = [jax.vmap(jax.hessian(f, 1))(p, p) for f in (lossjax.kl_divergence, square)]
        second = third(lambda t, p, v: lossjax.kl_divergence(p, p + t * v))
        first = third(lambda t, p, v: lossjax.kl_divergence(p + t * v, p))
        theta = KL.gradient(q)
        canonical = KL.value(p) + KL.conjugate(theta) - jnp.sum(p * theta, axis=-1)
        return hessians, first, second, canonical, geometry.fisher_information(p, "ambient")

    (of_kl, of_square), first, second, canonical, fisher = measured(measure, p, q, v)
    trial.close("Hessian of KL: Fisher's matrix", of_kl, fisher, 32, scale=np.max(fisher))
    trial.close("Fisher's matrix: diag(1/p)", fisher, np.eye(4) / wide(p)[..., None], 8)
    trial.close("Hessian of ½‖p - q‖²: the identity", of_square, np.broadcast_to(np.eye(4), (10, 4, 4)), 4, scale=1)
    cubes = np.sum(wide(v) ** 3 / wide(p) ** 2, axis=-1)
    size = np.sum(np.abs(wide(v)) ** 3 / wide(p) ** 2, axis=-1)
    trial.close("third derivative in q: -2Σv³/p²", second, -2 * cubes, 64, scale=size)
    trial.close("third derivative in p: -Σv³/p²", first, -cubes, 64, scale=size)
    terms = np.sum(np.abs(wide(p) * np.log(wide(p))) + np.abs(wide(p) * np.log(wide(q))) + wide(p) + wide(q), axis=-1)
    trial.close("φ(p) + φ*(θ) - ⟨p, θ⟩ at θ = ∇φ(q)", canonical, _relative_entropy(p, q), 32, scale=terms)

    point, a, b = trial.normal(3), trial.normal(3), trial.normal(3)
    identity = jnp.eye(3, dtype=trial.dtype)
    flat = measured(lambda x, a, b: geometry.sectional_curvature(lambda x: identity, x, a, b), point, a, b)
    trial.exactly("Euclidean distance is Riemannian too, of curvature 0", flat, 0)


@claim(
    "(4.1.2)",
    section="4.1.5",
    statement="D_φ(p, q) = φ(p) − φ(q) − ⟨∇φ(q), p − q⟩ for a strictly convex differentiable φ is a divergence",
    verdict="needs conditions",
    correction="φ differentiable at q, p in its domain: then D ≥ 0, = 0 only at p = q, convex in p (not always in q)",
)
def bregman_divergence(trial: Trial) -> None:
    """Five generators against the definition: sign, zero, gradient, affine terms; and φ = x³, not convex in q."""
    root = trial.random.normal(size=(4, 4))
    matrix = trial.array(root @ root.T + np.eye(4))
    p, q, slope = _interior(trial, 30, 4), _interior(trial, 30, 4), trial.normal(4)
    generators: dict[str, tuple[Any, Any]] = {
        "½‖x‖²": (geometry.SquaredEuclidean(), lambda x: 0.5 * jnp.sum(x**2)),
        "Σ x log x": (KL, lambda x: jnp.sum(x * jnp.log(x))),
        "-Σ log x": (geometry.BurgEntropy(), lambda x: -jnp.sum(jnp.log(x))),
        "Σ eˣ": (geometry.Exponential(), lambda x: jnp.sum(jnp.exp(x))),
        "½xᵀAx": (geometry.Mahalanobis(matrix), lambda x: 0.5 * x @ (matrix @ x)),
    }

    def measure(p: jax.Array, q: jax.Array) -> Any:
        def every(generator: Any, phi: Any) -> Any:
            def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
                return geometry.bregman_divergence(generator, p, q)

            def affine(x: jax.Array) -> jax.Array:
                return phi(x) + slope @ x + 3

            (of_p, of_q), (steep_p, steep_q) = jax.vmap(jax.vmap(jax.value_and_grad(phi)))(jnp.stack([p, q]))
            terms = of_p, of_q, jnp.sum(steep_q * (p - q), axis=-1)
            moved = geometry.bregman_divergence(affine, p, q)
            slopes = gradient(divergence)(p, q), steep_p - steep_q
            return divergence(jnp.stack([p, p, (p + q) / 2]), jnp.stack([q, p, q])), terms, moved, slopes

        return [every(*both) for both in generators.values()]

    results = measured(measure, p, q)
    for name, ((ours, own, middle), terms, moved, slopes) in zip(generators, results, strict=True):
        size = sum(np.abs(term) for term in terms)
        trial.close(f"{name}: the definition", ours, wide(terms[0]) - terms[1] - terms[2], 16, scale=size)
        trial.happens(f"{name}: positive for p ≠ q", np.all(ours > 0))
        trial.exactly(f"{name}: 0 for p = q", own, np.zeros(30))
        added = np.abs(wide(p) @ wide(slope)) + np.abs(wide(q) @ wide(slope)) + 6
        trial.close(f"{name}: affine terms change nothing", moved, ours, 32, scale=size + added)
        scale = np.max(np.abs(slopes[1])) + np.max(1 / wide(p))
        trial.close(f"{name}: gradient ∇φ(p) - ∇φ(q)", slopes[0], slopes[1], 16, scale=scale)
        trial.happens(f"{name}: convex in p", np.all(middle <= ours / 2 * (1 + 16 * trial.u)))

    def cubic(q: jax.Array) -> jax.Array:
        return geometry.bregman_divergence(lambda x: jnp.sum(x**3), jnp.ones(1, q.dtype), q[None])

    bend = measured(jax.grad(jax.grad(cubic)), trial.array(0.1))
    trial.close("φ = x³, p = 1, q = 0.1: ∂²D/∂q² = 12q - 6p", bend, np.float64(-4.8), 32)


@claim(
    "5.4",
    section="4.1.5",
    statement="For φ = ½‖p‖² the Bregman divergence is half the Euclidean distance",
    verdict="wrong",
    correction="Half the squared distance: D = ½‖p − q‖²",
)
def half_the_squared_distance(trial: Trial) -> None:
    """The square at three scales, and a distance of ½, where the halves of square and distance differ by 1/8."""
    generator = geometry.SquaredEuclidean()
    scales = np.repeat([1e-3, 1, 1e3], 20)[:, None]
    p, q = (trial.array(scales * trial.random.normal(size=(60, 7))) for _ in range(2))
    near = trial.array([[0.5, 0, 0]]), trial.array([[0, 0, 0]])

    def measure(p: jax.Array, q: jax.Array) -> Any:
        def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
            return geometry.bregman_divergence(generator, p, q)

        return divergence(p, q), gradient(divergence)(p, q), divergence(*near)

    value, slope, at_half = measured(measure, p, q)
    squared = np.sum((wide(p) - wide(q)) ** 2, axis=-1)
    trial.close("½‖p - q‖²", value, squared / 2, 16)
    trial.close("gradient p - q", slope, wide(p) - wide(q), 4)
    trial.refuted("off half the distance of ½ by", abs(at_half[0] - 0.25), 0.125)
    trial.refuted("off half the distance, at most", np.max(np.abs(value - np.sqrt(squared) / 2)), 1e5)


@claim(
    "5.5",
    section="4.1.5",
    statement="Negative entropy φ = Σ p log p induces D_φ = Σ p log(p/q), which is KL",
    verdict="needs conditions",
    correction="Because Σp = Σq; on R^n_+ it is Σ (p log(p/q) − p + q); q in Δ°, else +∞ where p_i > 0 = q_i",
)
def negative_entropy(trial: Trial) -> None:
    """On the simplex, off it, and on its boundary, where the definition has no gradient."""
    p, q = trial.simplex(50, 6), trial.simplex(50, 6)
    heavy, light = trial.array(3 * np.asarray(p, np.float64)), trial.array(2 * np.asarray(q, np.float64))
    edge = trial.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]), trial.array([[0.25, 0.75, 0]] * 3)

    def measure(p: jax.Array, q: jax.Array, heavy: jax.Array, light: jax.Array) -> Any:
        def by_definition(p: jax.Array, q: jax.Array) -> jax.Array:
            return geometry.bregman_divergence(lambda x: jnp.sum(x * jnp.log(x)), p, q)

        pairs = (p, q), (heavy, light), edge
        return [(geometry.bregman_divergence(KL, *pair), by_definition(*pair)) for pair in pairs]

    on, off, boundary = measured(measure, p, q, heavy, light)
    for name, got in zip(("ours", "the definition"), on, strict=True):
        exact = _relative_entropy(p, q)
        trial.close(f"on Δ it is Σ p log(p/q), {name}", got, exact, 128, scale=1 + exact)
    printed = _relative_entropy(heavy, light)
    trial.close("off Δ: Σ (p log(p/q) - p + q)", off[0], printed + np.sum(wide(light) - wide(heavy), axis=-1), 256)
    missed = np.min(np.abs(off[0] - printed))
    trial.refuted("off Δ, Σp = 3 and Σq = 2: Σ p log(p/q) is off by", missed, 1 - 64 * trial.u)
    trial.happens("on the boundary the definition is NaN", np.all(np.isnan(boundary[1])), refutes=True)
    trial.close("0 beside 0 contributes 0", boundary[0][0], np.float64(0.5 * math.log(4 / 3)), 16, scale=1)
    trial.exactly("+∞ where p > 0 = q", boundary[0][1:], np.full(2, np.inf))


@claim(
    "4.1.4",
    section="4.1.5",
    statement="KL is the Bregman divergence of negative entropy on the probability simplex",
    verdict="needs conditions",
    correction="On Δ × Δ°: D_KL = −Σ p log q − (−Σ p log p) = Σ p log(p/q) = D_φ; extended by +∞ to the boundary",
)
def kl_is_bregman(trial: Trial) -> None:
    """KL, Σ p log(p/q), CE - H and D_φ agree, and so do their derivatives, for near and for distant pairs."""
    p = trial.simplex(60, 5, concentration=2.0)
    q = jnp.concatenate([trial.simplex(30, 5), p[30:] * trial.array(1 + 0.01 * trial.random.normal(size=(30, 5)))])
    q = q / jnp.sum(q, axis=-1, keepdims=True)

    def measure(p: jax.Array, q: jax.Array) -> Any:
        def printed(p: jax.Array, q: jax.Array) -> jax.Array:
            return jnp.sum(p * jnp.log(p / q), axis=-1)

        def induced(p: jax.Array, q: jax.Array) -> jax.Array:
            return geometry.bregman_divergence(KL, p, q)

        functions = lossjax.kl_divergence, induced, printed
        rest = lossjax.cross_entropy(p, q) - lossjax.entropy(p)
        return [f(p, q) for f in functions], rest, [gradient(lambda q, f=f: f(p, q))(q) for f in functions]

    (ours, induced, printed), rest, (slope, of_induced, of_printed) = measured(measure, p, q)
    with oracle.precision():
        exact = np.array([float(x) for x in oracle.kl_divergence(balls(p), balls(q))])
    trial.close("kl_divergence", ours, exact, 33)
    trial.close("D_φ", induced, exact, 33)
    terms = np.sum(np.abs(wide(p) * np.log(wide(q))) - wide(p) * np.log(wide(p)), axis=-1)
    # Σp and Σq are 1 to n·u/2 only, and the two differ by that from Σ p log(p/q).
    trial.close("Σ p log(p/q)", printed, exact, 32, scale=1 + terms)
    trial.close("CE(p, q) - H(p)", rest, exact, 32, scale=1 + terms)
    # In the tangent space Σdq = 0 the derivatives -p/q and 1 - p/q are one.
    trial.close("gradient in q", slope, (wide(q) - wide(p)) / wide(q), 8)
    trial.close("gradient of D_φ", of_induced, slope, 8)
    size = 1 + wide(p) / wide(q)
    trial.close("gradient of Σ p log(p/q), plus 1", of_printed + np.ones((), trial.dtype), slope, 16, scale=size)


@claim(
    "(4.1.3)",
    section="4.1.5",
    statement="D_KL(p‖q) = −Σ p log q − (−Σ p log p) + Σ p log(p/q) = D_φ(p, q)",
    verdict="wrong",
    correction="The right side counts twice and is 2·KL: drop the last term, or write = for its +",
)
def doubled_divergence(trial: Trial) -> None:
    """The printed sum over KL is 2, on the page's example and on random pairs."""
    p = trial.array(np.concatenate([[[0.5, 0.3, 0.2]], trial.random.dirichlet(np.ones(3), size=40)]))
    q = trial.array(np.concatenate([[[0.2, 0.5, 0.3]], trial.random.dirichlet(np.ones(3), size=40)]))

    def measure(p: jax.Array, q: jax.Array) -> Any:
        entropies = lossjax.cross_entropy(p, q), lossjax.entropy(p)
        return *entropies, lossjax.kl_divergence(p, q), jnp.sum(p * jnp.log(p / q), axis=-1)

    cross, entropy, kl, last = measured(measure, p, q)
    printed = cross - entropy + last
    scale = np.abs(cross) + np.abs(entropy) + np.abs(last)
    trial.close("without the last term: KL", cross - entropy, kl, 64, scale=scale)
    trial.close("printed sum: 2 KL", printed, 2 * wide(kl), 64, scale=scale)
    trial.at_most("example: |KL - 0.223805|", abs(kl[0] - 0.223805), 1e-6)
    trial.at_most("example: |printed - 0.447609|", abs(printed[0] - 0.447609), 1e-6)
    apart = kl > 0.01
    trial.refuted("least relative excess of the printed sum over KL", np.min(printed[apart] / kl[apart]) - 1, 0.99)


@claim(
    "5.7",
    section="4.1.5",
    statement="With P fixed, minimising cross-entropy is minimising KL: Q approaches P in the sense of the divergence",
)
def approach_in_the_second_argument(trial: Trial) -> None:
    """CE = H(P) + KL along a family of models: same minimiser and gradient; KL(Q‖P) has another."""
    p, start, direction = trial.array([0.5, 0.3, 0.15, 0.05]), trial.array([0, 1, 0, 2]), trial.array([1, 2, 3, 4])
    steps = trial.array(np.linspace(-4, 2, 481))

    def measure(steps: jax.Array, p: jax.Array) -> Any:
        z = start + steps[:, None] * direction
        target, q = jnp.broadcast_to(p, z.shape), lossjax.softmax(z)
        cross, divergence = lossjax.softmax_cross_entropy(z, target), lossjax.kl_divergence(target, q)
        slopes = [gradient(f)(z) for f in (
            lambda z: lossjax.softmax_cross_entropy(z, target),
            lambda z: lossjax.kl_divergence(target, lossjax.softmax(z)),
        )]  # fmt: skip
        return cross, divergence, lossjax.kl_divergence(q, target), lossjax.entropy(p), slopes, q

    cross, divergence, swapped, entropy, slopes, q = measured(measure, steps, p)
    trial.close("CE = H(P) + KL", cross, wide(entropy) + divergence, 32)
    trial.exactly("same minimiser", np.argmin(cross), np.argmin(divergence))
    trial.close("same gradient in the logits", slopes[0], slopes[1], 32, scale=1)
    moment = np.abs(wide(q) @ wide(direction) - wide(p) @ wide(direction))
    trial.exactly("it is where the moments match", np.argmin(cross), np.argmin(moment))
    apart = abs(int(np.argmin(swapped)) - int(np.argmin(cross)))
    trial.refuted("KL(Q‖P) is minimal elsewhere: steps between", apart, 5)


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
        p, v = np.array([arb(2) / 10, arb(3) / 10, arb(5) / 10]), np.array([arb(1), arb(2), arb(-3)])
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
    p = _interior(trial, 20, 4)
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
    p = _interior(trial, 12, 4)

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
    three, six = np.asarray(_interior(trial, 20, 3)), np.asarray(_interior(trial, 20, 6))
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


@claim("5.11", section="4.1.5", statement="This structure reflects the intrinsic curvature of the space of distributions")
def intrinsic_curvature(trial: Trial) -> None:
    """Levi-Civita's connection is curved, by 1/4; the two that KL carries are flat in their own coordinates."""
    p = _interior(trial, 6, 4)

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
    statement="MSE: Euclidean distance, constant curvature, orthogonal; CE: KL, variable curvature, information projection",
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
    cross_entropy_is_no_divergence,
    both_are_riemannian,
    bregman_divergence,
    half_the_squared_distance,
    negative_entropy,
    kl_is_bregman,
    doubled_divergence,
    approach_in_the_second_argument,
    metric_is_symmetric,
    line_element,
    fisher_matrices,
    intrinsic_curvature,
    geometries,
)
