"""Which images a comparison shows."""

from math import nan

import pytest

from fbr_plugin.figures.choice import quantile_rows


@pytest.mark.parametrize(
    ("values", "number", "rows"),
    [
        ([30.0, 10.0, 20.0], 3, [1, 2, 0]),
        (range(100), 5, [10, 30, 50, 70, 90]),
        ([5.0, nan, 1.0], 5, [2, 0]),
        ([7.0, 7.0, 7.0, 7.0], 2, [1, 3]),
        ([nan], 5, []),
        ([], 5, []),
    ],
)
def test_quantiles_are_the_middles_of_equal_parts(values: list[float], number: int, rows: list[int]) -> None:
    assert quantile_rows(values, number) == rows
