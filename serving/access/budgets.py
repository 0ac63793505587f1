"""How much a key may ask for: requests in any minute, tokens in a day (UTC).

Both are decided before any work is done, and nothing is awaited between looking and taking: in one event loop
no number of requests at once passes a limit. Tokens are reserved at the most that a request may use and
settled at what it did use.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.access.keys import ApiKey

_MINUTE_S = 60.0
_DAY_S = 86400


class Rate:
    """At most `per_minute` requests in any 60 seconds, whatever their spacing."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._taken_s: deque[float] = deque()

    def take(self, now_s: float) -> float:
        """Count a request and return 0, or the seconds after which there is room for one."""
        while self._taken_s and self._taken_s[0] <= now_s - _MINUTE_S:
            self._taken_s.popleft()
        if len(self._taken_s) >= self.per_minute:
            return self._taken_s[0] + _MINUTE_S - now_s
        self._taken_s.append(now_s)
        return 0.0


@dataclass
class _Day:
    number: int
    spent: int = 0
    reserved: int = 0


class Reservation:
    """Tokens put aside for one request, until `settle` says what it used."""

    def __init__(self, day: _Day, tokens: int) -> None:
        self._day = day
        self._tokens = tokens
        day.reserved += tokens

    def settle(self, used: int) -> None:
        """Count `used` tokens in place of those reserved; once only."""
        self._day.reserved -= self._tokens
        self._day.spent += used
        self._tokens = 0


class Budgets:
    """What each key has used: `spent` survives a restart through `snapshot` and `restore`."""

    def __init__(self, now_s: Callable[[], float], elapsed_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._elapsed_s = elapsed_s
        self._rates: dict[str, Rate] = {}
        self._days: dict[str, _Day] = {}

    def wait_s(self, key: ApiKey) -> int:
        """Count a request of `key` and return 0, or the whole seconds after which it may ask again."""
        if key.requests_per_minute is None:
            return 0
        rate = self._rates.get(key.name)
        if rate is None or rate.per_minute != key.requests_per_minute:
            rate = self._rates[key.name] = Rate(key.requests_per_minute)
        return math.ceil(rate.take(self._elapsed_s()))

    def reserve(self, key: ApiKey, tokens: int) -> Reservation | None:
        """Put `tokens` of the day's budget aside; None where fewer are left."""
        day = self._today(key.name)
        limit = key.tokens_per_day
        if limit is not None and day.spent + day.reserved + tokens > limit:
            return None
        return Reservation(day, tokens)

    def left(self, key: ApiKey) -> int | None:
        """Return the tokens that `key` may still reserve today; None for a key without a limit."""
        if key.tokens_per_day is None:
            return None
        day = self._today(key.name)
        return max(0, key.tokens_per_day - day.spent - day.reserved)

    @property
    def day_ends_in_s(self) -> int:
        """Whole seconds to the next day."""
        return _DAY_S - int(self._now_s()) % _DAY_S

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return today's spending by key, as JSON."""
        today = int(self._now_s()) // _DAY_S
        return {
            name: {"day": day.number, "tokens": day.spent}
            for name, day in sorted(self._days.items())
            if day.number == today and day.spent
        }

    def restore(self, snapshot: Mapping[str, Mapping[str, int]]) -> None:
        """Go on from a snapshot; what is in it of other days is forgotten."""
        for name, day in snapshot.items():
            self._days[name] = _Day(int(day["day"]), int(day["tokens"]))

    def _today(self, name: str) -> _Day:
        number = int(self._now_s()) // _DAY_S
        day = self._days.get(name)
        if day is None or day.number != number:
            # What is still reserved of yesterday is settled there.
            day = self._days[name] = _Day(number)
        return day
