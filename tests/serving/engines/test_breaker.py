from __future__ import annotations

from serving.engines.breaker import Breaker
from serving.engines.engine import Engine
from serving.engines.upstream import Upstream


def test_pauses_grow_while_it_fails_and_one_request_tries() -> None:
    now_s = 0.0
    breaker = Breaker(lambda: now_s)
    for _ in range(2):
        breaker.failed()
    assert breaker.closed_for_s == 0
    breaker.failed()
    assert breaker.closed_for_s == 1
    pauses_s = []
    for _ in range(7):
        now_s += breaker.closed_for_s
        assert breaker.closed_for_s == 0
        breaker.begin()
        assert breaker.closed_for_s > 0  # the others wait for what the one finds
        breaker.failed()
        breaker.end()
        pauses_s.append(breaker.closed_for_s)
    assert pauses_s == [2, 4, 8, 16, 30, 30, 30]
    now_s += 30
    breaker.begin()
    breaker.succeeded()
    assert breaker.closed_for_s == 0


def test_trial_whose_client_went_away_leaves_room_for_the_next() -> None:
    now_s = 0.0
    breaker = Breaker(lambda: now_s)
    for _ in range(3):
        breaker.failed()
    now_s = 1.0
    breaker.begin()
    breaker.end()
    assert breaker.closed_for_s == 0


def test_fewest_requests_first_and_another_than_before() -> None:
    engine = Engine("e", "http://a/v1", "m", frozenset(), more_urls=("http://b/v1", "http://c/v1"))
    upstream = Upstream(engine, lambda: 0.0)
    first = upstream.choose()
    assert first is not None
    with first.asking():
        second = upstream.choose()
        assert second is not None
        assert second is not first
        with second.asking():
            third = upstream.choose()
            assert third not in (None, first, second)
    again = upstream.choose([first, second])
    assert again is third
    for replica in (first, second, third):
        assert replica is not None
        for _ in range(3):
            replica.failed()
    assert upstream.choose() is None
    assert upstream.closed_for_s == 1
