from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.similarity import Clusters, NearestIndex, grams, similar_pairs, similarity
from data.wording import canonical, difference, numbers, words


def differ(left: str, right: str) -> str:
    return difference(words(left), words(right))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("高血压患者可以吃莲子吗？", "请问高血压病人能不能吃莲子"),
        ("肝硬化应该怎么样治疗?", "肝硬化需要如何治疗呢"),
        ("ＷＨＡＴ are the side-effects of  Aspirin tablets?", "what are side effects of the aspirin tablet"),
        ("What's the dose?", "what is the dose"),
    ],
)
def test_the_same_question_in_other_words_is_equal(left: str, right: str) -> None:
    assert canonical(left) == canonical(right)
    assert grams(left) == grams(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("每天两次每次一片应该饭前吃吗", "每天三次每次一片应该饭前吃吗"),
        ("can I take 50 mg with food", "can I take 60 mg with food"),
        ("is it safe to take with alcohol", "is it not safe to take with alcohol"),
        ("do I take it with food", "do I take it without food"),
        ("乙肝小三阳怎么预防", "乙肝大三阳怎么预防"),
        ("怀孕能吃阿莫西林吗", "怀孕能吃青霉素吗"),
        ("how is amoxicillin stored", "how is ampicillin stored"),
        ("qvar 40mg what is it for", "qvar 40mcg what is it for"),
    ],
)
def test_what_carries_meaning_is_never_wording(left: str, right: str) -> None:
    assert differ(left, right) == "content"


def test_wording_and_addition() -> None:
    assert differ("得乙肝病毒携带者会传染吗", "乙肝病毒携带者会不会传染") == "wording"
    assert differ("我肚子胀胃胀怎么办", "肚子胀胃胀怎么办") == "wording"
    assert differ("how soon does losartan afffect it", "how soon does losartan affect it") == "wording"
    assert differ("治疗癫痫病哪家医院好", "治疗癫痫病济南哪家医院好") == "addition"
    assert differ("a b", "a b") == "none"


def test_numbers_are_kept_apart_and_order_does_not_matter() -> None:
    assert numbers(words("5mg 或 10mg")) == numbers(words("10mg 和 5mg"))
    assert numbers(words("血压135/85高吗")) != numbers(words("血压135/80高吗"))


def test_a_question_of_particles_keeps_them() -> None:
    assert canonical("的吗") != ""
    assert canonical("？") == ""
    assert similarity(grams("？"), grams("！")) == 0


TEXTS = st.lists(st.text("高低血压糖能吃药ab 1", min_size=0, max_size=12), min_size=0, max_size=40)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.8, 1.0]))
def test_the_join_finds_what_comparing_all_pairs_finds(texts: list[str], threshold: float) -> None:
    sets = [grams(text) for text in texts]
    found = {(pair.left, pair.right): pair.similarity for pair in similar_pairs(sets, threshold)}
    firsts = {members: place for place, members in reversed(list(enumerate(sets)))}
    expected = {
        (left, right): similarity(sets[left], sets[right])
        for right in range(len(sets))
        for left in range(right)
        if sets[left]
        and firsts[sets[left]] == left
        and (firsts[sets[right]] == right or sets[left] == sets[right])
        and similarity(sets[left], sets[right]) >= threshold
    }
    assert found == expected


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.text("高低血压糖能吃药ab 1", max_size=12))
def test_the_nearest_is_the_nearest(texts: list[str], asked: str) -> None:
    sets = [grams(text) for text in texts]
    best = max((similarity(grams(asked), members) for members in sets), default=0.0)
    found = NearestIndex(sets).nearest(grams(asked))
    assert (found[1] if found else 0.0) == best
    assert found is None or similarity(grams(asked), sets[found[0]]) == best


def test_keys_keep_places_apart_and_clusters_chain() -> None:
    sets = [grams("高血压能喝茶"), grams("高血压能喝茶"), grams("高血压能喝茶")]
    assert [(p.left, p.right) for p in similar_pairs(sets, 0.8, keys=["x", "y", "x"])] == [(0, 2)]
    clusters = Clusters(4)
    clusters.join(2, 3)
    clusters.join(3, 0)
    assert [clusters.find(place) for place in range(4)] == [0, 1, 0, 0]
