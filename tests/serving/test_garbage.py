"""Objects that live as long as the service are not looked at again; those left by replaced parts are given back."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from serving.garbage import settle


class _Part:
    """Refers to itself, as routes and their application do; only a collection gives it back."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_alive_is_set_aside() -> None:
    settle()
    part = _Part()
    settle()
    part_of_later = _Part()
    looked_at = gc.get_objects()
    assert not any(one is part for one in looked_at)
    assert any(one is part_of_later for one in looked_at)
    assert gc.get_freeze_count() > 10_000


def test_parts_replaced_since_are_given_back() -> None:
    part = _Part()
    settle()
    gone = weakref.ref(part)
    del part
    gc.collect()
    assert gone() is not None
    settle()
    assert gone() is None
