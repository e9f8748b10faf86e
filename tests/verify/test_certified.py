"""Every public loss of lossjax passes its own verifier: the rule, exactly; and the pullback's linearity."""

import numpy as np
import pytest

from lossjax.verify import assert_verified
from lossjax.verify.samples import losses, sample


@pytest.mark.parametrize("name", losses())
def test_rule_and_cotangent(name: str) -> None:
    one = sample(name, np.float32)
    assert_verified(one.loss, *one.arguments, argnums=one.argnums, checks=("rule", "cotangent"))
