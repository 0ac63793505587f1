from __future__ import annotations

from rag.support import SupportMeter
from tests.rag.rows import COLD, ROWS, SALT


def test_a_rows_own_words_support_fully() -> None:
    support = SupportMeter(ROWS).measure("食盐每天不超过5克")
    assert support.shares[0] == 1.0
    assert support.best == 0
    assert max(support.shares[1:]) < 0.3


def test_words_of_no_row_are_supported_by_none() -> None:
    support = SupportMeter(ROWS).measure("北京哪家医院看甲亢最好")
    assert support.is_judged
    assert support.best is None


def test_a_greeting_is_not_judged() -> None:
    support = SupportMeter(ROWS).measure("您好！")
    assert not support.is_judged
    assert support.best is None


def test_stop_words_say_nothing() -> None:
    meter = SupportMeter(ROWS)
    assert meter.measure("What should I do with it, and when?").num_terms == 0
    assert meter.measure("Take 325 mg of it with food").best == 3


def test_better_needs_a_clear_lead() -> None:
    meter = SupportMeter((SALT, COLD))
    cold = meter.measure("多喝温水，注意休息")
    assert cold.better_than(0) == 1
    assert cold.better_than(1) is None
    both = meter.measure("食盐每天不超过5克，多喝温水，注意休息")
    assert both.better_than(0) is None
    assert both.better_than(1) is None


def test_without_rows_there_is_no_best() -> None:
    assert SupportMeter(()).measure("食盐每天不超过5克").best is None
