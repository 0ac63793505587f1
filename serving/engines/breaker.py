"""Leaves a server alone that fails again and again, and tries it with one request after a while."""

from __future__ import annotations

from collections.abc import Callable

_FAILURES = 3
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class Breaker:
    """Closed while the server answers; open for a pause, each twice as long, after three failures in a row."""

    def __init__(self, elapsed_s: Callable[[], float]) -> None:
        self._elapsed_s = elapsed_s
        self._num_failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._opens_again_s = 0.0
        self._is_tried = False

    @property
    def closed_for_s(self) -> float:
        """Seconds until a request may be sent; 0 where one may be now."""
        if self._num_failures < _FAILURES:
            return 0.0
        left_s = self._opens_again_s - self._elapsed_s()
        # One request finds out whether it works again; the others wait for that.
        return max(left_s, 0.1) if self._is_tried else max(left_s, 0.0)

    def begin(self) -> None:
        """Note that a request is sent."""
        if self._num_failures >= _FAILURES:
            self._is_tried = True

    def end(self) -> None:
        """Note that a request is over, however it went."""
        self._is_tried = False

    def succeeded(self) -> None:
        """Note that the server answered."""
        self._num_failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._is_tried = False

    def failed(self) -> None:
        """Note that the server could not be reached, died or said nothing."""
        self._num_failures += 1
        if self._num_failures < _FAILURES:
            return
        if self._num_failures > _FAILURES and self._is_tried:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._opens_again_s = self._elapsed_s() + self._pause_s
        self._is_tried = False
