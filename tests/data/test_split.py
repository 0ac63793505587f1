from __future__ import annotations

import json
import random
import unicodedata
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data.cli import app
from data.errors import InputError
from data.prepare import prepare_dataset
from data.records import Row, read_records, revision_of, row_id_of
from data.settings import PrepareSection, SplitSection, WorkbookSection
from data.split import Division, SplitBy, divide_rows
from data.wording import canonical
from tests.data.test_workbook import HEADER, make_workbook

TOPICS = ["高血压", "糖尿病", "痛风", "哮喘", "胃炎", "感冒", "失眠", "贫血", "便秘", "湿疹"]
QUESTIONS = ["{}患者能不能吃{}", "{}的人可以吃{}吗", "请问{}吃{}有什么好处", "得了{}还能喝{}汤吗"]
FOODS = ["苹果", "海带", "豆腐", "羊肉", "菠菜", "核桃", "鲫鱼", "绿豆"]


def row(info_1: str, question: str, answer: str) -> Row:
    return Row(
        row_id_of(info_1, "", question), revision_of(answer), info_1, "", question, answer, "k.xlsx#S!C2"
    )


ROWS = [
    row(topic, wording.format(topic, food), f"{wording}，{topic}，{food}，这一条的答案")
    for topic, food, wording in product(TOPICS, FOODS, QUESTIONS)
]


def divided(
    rows: list[Row], by: SplitBy = "near-duplicates", threshold: float = 0.8, seed: int = 17
) -> Division:
    return divide_rows(rows, validation=0.1, test=0.2, by=by, threshold=threshold, seed=seed)


def slow_similarity(left: str, right: str) -> float:
    """The documented measures, written out anew: Jaccard over 2 characters from a CJK one, 3 from any other."""

    def letters(text: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())

    return max(slow_jaccard(measure(left), measure(right)) for measure in (canonical, letters))


def slow_jaccard(left: str, right: str) -> float:
    def parts(text: str) -> set[str]:
        cut = [text[n : n + (2 if ord(text[n]) > 0x2E80 else 3)] for n in range(len(text))]
        return {part for part in cut if len(part) > 1 or len(text) == 1}

    one, other = parts(left), parts(right)
    return len(one & other) / len(one | other) if one | other else 0.0


def all_pairs_across(rows: list[Row], division: Division) -> list[float]:
    kept = [(r, side) for r, side in zip(rows, division.sides, strict=True) if side != "left out"]
    return [
        slow_similarity(one.question, other.question)
        for place, (one, side) in enumerate(kept)
        for other, other_side in kept[:place]
        if side != other_side
    ]


@pytest.mark.parametrize("by", ["near-duplicates", "info_1"])
@pytest.mark.parametrize("threshold", [0.7, 0.9])
def test_no_pair_across_the_sides_is_alike_and_the_report_says_how_alike(
    by: SplitBy, threshold: float
) -> None:
    division = divided(ROWS, by, threshold)
    alike = all_pairs_across(ROWS, division)
    assert max(alike) < threshold
    assert division.max_similarity == pytest.approx(max(alike))
    assert division.num_at_or_above(threshold) == 0
    assert {"train", "validation", "test"} <= set(division.sides)


def test_shares_are_met_and_nothing_is_left_out_of_a_split_by_clusters() -> None:
    sides = divided(ROWS).sides
    assert len(sides) == len(ROWS)
    assert abs(sides.count("test") - 64) <= 4
    assert abs(sides.count("validation") - 32) <= 4
    assert "left out" not in sides


def test_categories_stay_whole_and_rows_that_reach_across_are_left_out() -> None:
    rows = [*ROWS, row("其他", "请问高血压的患者能不能吃苹果呢", "另一个答案")]
    division = divided(rows, "info_1")
    by_topic: dict[str, set[str]] = {}
    for item, side in zip(rows, division.sides, strict=True):
        by_topic.setdefault(item.info_1, set()).add(side)
    assert all(len(sides - {"left out"}) <= 1 for sides in by_topic.values())
    assert max(all_pairs_across(rows, division)) < 0.8


def test_the_order_of_the_sheet_does_not_matter_and_the_seed_does() -> None:
    shuffled = list(ROWS)
    random.Random(3).shuffle(shuffled)
    assert {r.row_id for r in divided(ROWS).rows(ROWS, "test")} == {
        r.row_id for r in divided(shuffled).rows(shuffled, "test")
    }
    assert divided(ROWS).sides != divided(ROWS, seed=18).sides


def test_rows_with_the_same_long_answer_stay_together() -> None:
    shared = "多喝水，早点休息，三天不见好转就去看医生，不要自己加药。"
    rows = [*ROWS, *(row("杂", question, shared) for question in ("发烧怎么退", "嗓子疼吃什么", "鼻塞难受"))]
    assert len(set(divided(rows).sides[-3:])) == 1


def test_one_large_category_cannot_be_split_by_category() -> None:
    rows = [row("同一类", f"{topic}怎么预防", f"{topic}的答案") for topic in TOPICS]
    with pytest.raises(
        InputError, match=r"no rows for test: the largest of 1 groups \(info_1\) has 10 of 10 rows"
    ):
        divided(rows, "info_1")


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    rows = [[item.info_1, "饮食", item.question, item.answer] for item in ROWS]
    return make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows]})


def row_ids(path: Path) -> set[str]:
    return {json.loads(line)["row_id"] for line in path.read_text(encoding="utf-8").splitlines()}


def test_prepare_writes_the_sides_and_the_report(tmp_path: Path, workbook: Path) -> None:
    folder = tmp_path / "d"
    split = SplitSection(test=0.2, validation=0.1)
    prepared = prepare_dataset(folder, WorkbookSection(file=workbook), PrepareSection(), split)
    sides = [row_ids(folder / f"{side}.jsonl") for side in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(ROWS)
    assert len(read_records(folder / "rows.jsonl", Row)) == len(ROWS)
    report = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    assert {row_id for row_id, side in report["sides"].items() if side == "test"} == sides[2]
    assert report["num_at_or_above_threshold"] == 0
    assert report["max_similarity"] == report["nearest"][0]["similarity"] < 0.7
    assert prepared.manifest.facts["split"]["num_test"] == len(sides[2])
    # With rows held back, it is they that are asked, and training keeps both wordings of the others.
    assert prepared.manifest.facts["question_source"] == "test"
    assert row_ids(folder / "paraphrases.jsonl") <= sides[2]
    assert not prepare_dataset(folder, WorkbookSection(file=workbook), PrepareSection(), split).fresh


def test_without_a_split_nothing_changes(tmp_path: Path, workbook: Path) -> None:
    plain, unasked = tmp_path / "a", tmp_path / "b"
    prepare_dataset(plain, WorkbookSection(file=workbook), PrepareSection())
    prepare_dataset(unasked, WorkbookSection(file=workbook), PrepareSection(), SplitSection(seed=3))
    assert (plain / "groundtune.json").read_bytes() == (unasked / "groundtune.json").read_bytes()
    assert not (plain / "split.json").exists()
    assert len(row_ids(plain / "train.jsonl")) == len(ROWS)


def test_the_command_line_splits_and_reports(workbook: Path) -> None:
    arguments = ["prepare", "--workbook", str(workbook), "--test", "0.2", "--split-by", "info_1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "0 pairs at or above 0.7" in result.stdout
    assert "validation 0" in result.stdout
