from __future__ import annotations

from rag.subjects import Subjects, strangers, subjects_of
from tests.rag.rows import ASPIRIN, COLD, ROWS, SALT, STOP, row


def test_rows_that_say_nothing_of_the_subject_are_strangers() -> None:
    subjects = subjects_of(ROWS)
    assert strangers("高血压能吃盐吗", (COLD, SALT, ASPIRIN), 1, subjects) == {0, 2}


def test_a_row_that_speaks_of_the_subject_somewhere_is_none() -> None:
    subjects = subjects_of(ROWS)
    other = row("冠心病", "护理", "冠心病要注意什么", "高血压要一起控制。")
    assert strangers("高血压能吃盐吗", (SALT, other), 0, subjects) == frozenset()


def test_without_a_subject_nothing_is_said() -> None:
    subjects = subjects_of(ROWS)
    assert strangers("能吃盐吗", (SALT, COLD), 0, subjects) == frozenset()
    assert strangers("高血压能吃盐吗", (SALT, COLD), 0, Subjects()) == frozenset()
    # The nearest row does not say the subject either: nothing tells which row is meant.
    assert strangers("高血压能吃盐吗", (COLD, SALT), 0, subjects) == frozenset()
    assert strangers("", (), 0, subjects) == frozenset()


def test_the_same_subject_in_other_rows_is_known() -> None:
    assert strangers("高血压能停药吗", (SALT, STOP), 1, subjects_of(ROWS)) == frozenset()
