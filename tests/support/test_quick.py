"""The tests' programs give the numbers of a user's programs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import contract
from tests.support.cases import CASES, Case
from tests.support.draws import FAMILIES
from tests.support.quick import FUSED_AS_FOR_USERS, PROGRAMS_OF_A_CONTEXT
from tests.support.transformations import floats, moving


@pytest.mark.skipif(not FUSED_AS_FOR_USERS, reason="there is one way to write a fusion")
@pytest.mark.parametrize("case", CASES[::7], ids=lambda c: c.name)
def test_the_older_code_of_fusions_computes_the_same(case: Case) -> None:
    """Value and gradient: the same to the last bit nearly always, and never more than one bit apart."""
    args = contract.arguments(case, FAMILIES[0], np.float32)

    def both(*args: jax.Array) -> Any:
        output, pullback = jax.vjp(moving(case.loss, args, case.argnums), *floats(args, case.argnums))
        return output, pullback(jnp.ones_like(output))

    users = jax.jit(both, compiler_options=FUSED_AS_FOR_USERS)(*args)
    for ours, theirs in zip(jax.tree.leaves(jax.jit(both)(*args)), jax.tree.leaves(users), strict=True):
        np.testing.assert_array_max_ulp(ours, theirs, maxulp=1)


def test_programs_are_lowered_in_contexts_that_were_made_before() -> None:
    programs: list[Any] = [jax.jit(lambda x, i=i: x + i).lower(1.0).compiler_ir("stablehlo") for i in range(30)]
    contexts = {id(program.context): program.context for program in programs}
    assert len(contexts) <= len(programs) / PROGRAMS_OF_A_CONTEXT + 1
