"""Intervals of paired differences, beside SciPy's."""

import numpy as np
import pytest
from scipy import stats

from dlcourse.notebook import paired


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_paired_is_the_interval_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n))
    mean, half = paired(a, b)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert mean == pytest.approx((low + high) / 2)
    assert half == pytest.approx((high - low) / 2, rel=1e-3)


def test_paired_needs_as_many_of_both_and_two_to_five():
    with pytest.raises(ValueError, match="argument 2"):
        paired([1, 2, 3], [1, 2])
    for n in (1, 6):
        with pytest.raises(ValueError, match=f"2 to 5 seeds: got {n}"):
            paired([0.0] * n, [1.0] * n)
