"""The verifier under the flags with which newer JAX stages custom rules otherwise (``jax_custom_jvp3``, ``vjp3``)."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lossjax
from lossjax.verify import check, exact, oracle, ulp

FLAGS = ("jax_custom_jvp3", "jax_custom_vjp3")  # JAX 0.10 has the second only
Z = np.array([[1.0, 2.0, 3.0], [0.0, 0.5, -1.0]], np.float32)
Y = np.array([0, 2], np.int32)


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    """The flags on, and nothing traced without them or, afterwards, with them."""
    known = [flag for flag in FLAGS if flag in jax.config.values]
    assert known
    jax.clear_caches()
    for flag in known:
        jax.config.update(flag, True)
    yield
    for flag in known:
        jax.config.update(flag, False)
    jax.clear_caches()


def test_a_gradient_of_lossjax_is_executed_exactly() -> None:
    loss = lossjax.softmax_cross_entropy_with_integer_labels
    found = exact(jax.grad(lambda z: jnp.sum(loss(z, Y))))(Z)
    with oracle.precision():
        _, wanted = oracle.softmax_cross_entropy(ulp.balls(Z), oracle.one_hot(Y, 3))
    assert all(a.overlaps(b) for a, b in zip(found.ravel(), wanted.ravel(), strict=True))


@pytest.mark.parametrize("factor", [1, 3])
def test_a_custom_derivative_is_told_from_the_formula(factor: int) -> None:
    vjp = jax.custom_vjp(jnp.sin)
    vjp.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (factor * g * jnp.cos(x),))
    jvp = jax.custom_jvp(jnp.sin)
    jvp.defjvp(lambda primals, tangents: (jnp.sin(*primals), factor * tangents[0] * jnp.cos(*primals)))
    for function in (vjp, jvp, lambda x: jax.lax.scan(lambda c, _: (vjp(c), None), x, None, length=1)[0]):
        found = check(function, Z, checks="rule")
        assert found.ok is (factor == 1), str(found)
