from __future__ import annotations

import pytest

from rag.evidence import lexical_share, weigh
from rag.stages import Ranked


def test_a_long_message_counts_by_the_root_of_its_length() -> None:
    assert lexical_share("how much aspirin", 3) == 1.0
    assert lexical_share("aspirin", 3) == 1.0
    assert lexical_share("a b c d e f g h i j k l", 3) == pytest.approx(0.5)
    assert lexical_share("a a a a a a a a", 1) == 1.0
    assert lexical_share("?!", 3) == 1.0


def test_the_evidence_is_of_one_row() -> None:
    dense = [Ranked("a", 0.9), Ranked("b", 0.8)]
    lexical = [Ranked("b", 20.0), Ranked("c", 10.0)]
    found = weigh("word", dense, lexical, gain=0.01, usual_terms=1, depth=5)
    assert found is not None
    assert (found.row_id, found.score) == ("b", pytest.approx(1.0))
    found = weigh("word", dense, lexical, gain=0.001, usual_terms=1, depth=5)
    assert found is not None
    assert (found.row_id, found.score) == ("a", pytest.approx(0.9))
    assert weigh("word", [], [], gain=0.01, usual_terms=1, depth=5) is None
