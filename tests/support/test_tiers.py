"""The fast tier leaves out no value (or pair of values) of any parameter; what it leaves out is in the slow one."""

import itertools

import pytest

from tests.support.tiers import covering

SHAPES = [(7, 2), (3, 3, 2), (5, 1), (2, 4, 3, 2), (11,)]


@pytest.mark.parametrize("strength", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_value_or_pair_is_met_and_little_else(shape, strength):
    cases = list(itertools.product(*map(range, shape)))
    kept = [cases[i] for i in covering(cases, strength)]
    for positions in itertools.combinations(range(len(shape)), min(strength, len(shape))):
        assert len({tuple(case[i] for i in positions) for case in kept}) == len(
            {tuple(case[i] for i in positions) for case in cases}
        )
    least = 1
    for size in sorted(shape)[-strength:]:
        least *= size
    assert least <= len(kept) <= 1.5 * least


@pytest.mark.parametrize("shape", SHAPES)
def test_shorter_lists_are_met_in_turn(shape):
    cases = list(itertools.product(*map(range, shape)))
    kept = [cases[i] for i in covering(cases)]
    for position, size in enumerate(shape):
        counts = [sum(case[position] == value for case in kept) for value in range(size)]
        assert max(counts) - min(counts) <= 1


def test_an_incomplete_product_loses_nothing():
    """A value that only one case has is kept with it."""
    cases = [("a", 0), ("a", 1), ("b", 0), ("c", 2)]
    assert covering(cases) >= {1, 2, 3}
    assert covering(cases, 2) == {0, 1, 2, 3}


def test_the_fast_tier_is_a_part_of_everything(pytester: pytest.Pytester):
    pytester.makeconftest(
        "from tests.support import tiers\n\ndef pytest_collection_modifyitems(items): tiers.mark_slow(items)"
    )
    pytester.makepyfile("""
        import pytest

        @pytest.mark.covering
        @pytest.mark.parametrize("dtype", ["float32", "float64"])
        @pytest.mark.parametrize("x", [[1], [2], [3]])
        def test_x(x, dtype): pass

        @pytest.mark.slow
        def test_long(): pass
    """)
    marks = ["-p", "no:cacheprovider", "-o", "markers=slow\ncovering"]
    assert pytester.runpytest_inprocess(*marks, "-m", "not slow").parseoutcomes() == {"passed": 3, "deselected": 4}
    assert pytester.runpytest_inprocess(*marks, "-m", "").parseoutcomes() == {"passed": 7}
