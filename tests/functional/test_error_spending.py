"""However long a training turns out to be, its looks spend one share of the error, and no more."""

import pytest

from mia_lightning.functional.error_spending import OPEN_LOOKS, RESERVE, Spending


def spent_by(plans):
    spending, shares = Spending(), []
    for left in plans:
        after = spending.after(left)
        shares.append(after.spent - spending.spent)
        spending = after
    return shares


def test_a_plan_is_spent_evenly():
    shares = spent_by(range(20, 0, -1))
    assert shares == pytest.approx([(1 - RESERVE) / 20] * 20)


def test_an_open_length_spends_half_of_what_remains_on_each_twenty_looks():
    shares = spent_by([None] * (3 * OPEN_LOOKS))
    for place, part in enumerate((0.5, 0.25, 0.125)):
        assert sum(shares[place * OPEN_LOOKS : (place + 1) * OPEN_LOOKS]) == pytest.approx(part)


def test_a_training_that_goes_on_spreads_what_its_plan_has_not_spent():
    shares = spent_by([*range(10, 5, -1), *range(25, 0, -1)])
    assert sum(shares[:5]) == pytest.approx(sum(shares[5:])) == pytest.approx((1 - RESERVE) / 2)
    assert shares[5:] == pytest.approx([(1 - RESERVE) / 50] * 25)


@pytest.mark.parametrize(
    "plans",
    [
        [1] * 500,
        [None] * 5000,
        [*range(20, 0, -1), *[1] * 200],
        [*range(3, 0, -1), *[None] * 300, *range(40, 0, -1), *range(7, 0, -1)],
        [5, 5, 5, 5, 4, 3, 9, 1, 1, None, 2, None, 1],
        [0, -3, 1],
    ],
)
def test_all_shares_together_are_one_at_the_most(plans):
    shares = spent_by(plans)
    assert all(share >= 0.0 for share in shares)
    assert sum(shares) <= 1.0 + 1e-12
    assert shares[0] > 0.0
