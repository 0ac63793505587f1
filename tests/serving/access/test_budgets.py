from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.access.budgets import Budgets, Rate
from serving.access.keys import ApiKey


def _key(**limits: int) -> ApiKey:
    return ApiKey(name="k", sha256="0" * 64, created="2026-01-01", **limits)


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 40, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
)
def test_no_minute_has_more_than_the_rate(per_minute: int, gaps_s: list[float]) -> None:
    rate, now_s, taken = Rate(per_minute), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        wait_s = rate.take(now_s)
        if wait_s == 0:
            taken.append(now_s)
        else:
            assert 0 < wait_s <= 60
    for start in taken:
        assert sum(start <= time_s < start + 60 for time_s in taken) <= per_minute


def test_rate_tells_when_there_is_room_again() -> None:
    now_s = 0.0
    budgets = Budgets(lambda: 0.0, lambda: now_s)
    key = _key(requests_per_minute=2)
    assert [budgets.wait_s(key) for _ in range(3)] == [0, 0, 60]
    now_s = 59.5
    assert budgets.wait_s(key) == 1
    now_s = 60.0
    assert [budgets.wait_s(key) for _ in range(3)] == [0, 0, 60]


def test_tokens_put_aside_are_not_given_twice() -> None:
    budgets, key = Budgets(lambda: 0.0, lambda: 0.0), _key(tokens_per_day=100)
    first, second = budgets.reserve(key, 60), budgets.reserve(key, 40)
    assert first is not None
    assert second is not None
    assert budgets.reserve(key, 1) is None
    first.settle(10)
    assert budgets.left(key) == 50
    second.settle(40)
    assert budgets.left(key) == 50
    assert budgets.reserve(key, 51) is None


def test_new_day_begins_anew_and_late_answers_count_for_theirs() -> None:
    now_s = 86400.0 - 10
    budgets, key = Budgets(lambda: now_s, lambda: 0.0), _key(tokens_per_day=100)
    late = budgets.reserve(key, 100)
    assert late is not None
    assert budgets.day_ends_in_s == 10
    now_s = 86400.0
    assert budgets.left(key) == 100
    late.settle(100)
    assert budgets.left(key) == 100


def test_restart_goes_on_with_what_was_spent_today() -> None:
    now_s = 0.0
    budgets, key = Budgets(lambda: now_s, lambda: 0.0), _key(tokens_per_day=100)
    reservation = budgets.reserve(key, 90)
    assert reservation is not None
    reservation.settle(70)
    snapshot = budgets.snapshot()
    again = Budgets(lambda: now_s, lambda: 0.0)
    again.restore(snapshot)
    assert again.left(key) == 30
    now_s = 86400.0
    assert again.left(key) == 100
    assert again.snapshot() == {}
