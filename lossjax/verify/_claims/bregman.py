"""§4.1.5: divergences on the simplex."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lossjax
from lossjax import geometry
from lossjax.verify import oracle
from lossjax.verify._claims._tools import gradient, interior, measured, wide
from lossjax.verify.claim import Claim, Trial, claim
from lossjax.verify.ulp import balls

KL = geometry.NegativeEntropy()


def _relative_entropy(p: Any, q: Any) -> Any:
    """Σ p log(p/q) as printed, in extended precision, for positive entries."""
    return np.sum(wide(p) * np.log(wide(p) / wide(q)), axis=-1)


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
    p, q, v = interior(trial, 10, 4), interior(trial, 10, 4), trial.normal(10, 4)

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
    p, q, slope = interior(trial, 30, 4), interior(trial, 30, 4), trial.normal(4)
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


CLAIMS: tuple[Claim, ...] = (
    cross_entropy_is_no_divergence,
    both_are_riemannian,
    bregman_divergence,
    half_the_squared_distance,
    negative_entropy,
    kl_is_bregman,
    doubled_divergence,
    approach_in_the_second_argument,
)
