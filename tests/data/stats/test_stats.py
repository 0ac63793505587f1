from __future__ import annotations

import json
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.image import imread
from typer.testing import CliRunner

from data.charts import find_labels
from data.cli import app
from data.stats.scripts import script_of
from tests.data.test_workbook import HEADER, make_workbook

# biáng, in no font but a few of the largest; a label with it cannot be drawn whole.
UNDRAWABLE = "\U00030edd\U00030edd面"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("高血压能吃盐吗", "Chinese"),
        ("MRI检查前需要做什么准备", "Chinese"),
        ("what is MRI", "Latin"),
        ("これは漢字です", "Japanese"),
        ("고혈압", "Korean"),
        ("Что это такое", "Cyrillic"),
        ("take it with 饭后 food 温水", "mixed"),
        ("123 ?", "none"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    rows = [[f"类{n % 20}", "", f"第{n}个问题{'很' * (n % 7)}长", "答案" * (n + 1)] for n in range(40)]
    return make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows, ["x", "", "no answer", None]]})


def test_numbers_and_picture(tmp_path: Path, workbook: Path) -> None:
    picture = tmp_path / "out" / "stats.png"
    result = CliRunner().invoke(app, ["stats", str(workbook), "--picture", str(picture), "--json"])
    shown = json.loads(result.stdout)
    assert (shown["num_rows"], shown["num_distinct_questions"], len(shown["info_1"])) == (40, 40, 20)
    assert shown["answer"]["characters"] == {"min": 2, "median": 42, "p95": 78, "max": 80, "mean": 41.0}
    assert shown["question"]["scripts"] == {"Chinese": 40}
    assert shown["info_2"] == {"": 40}
    pixels = imread(picture)
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].min() == 0
    result = CliRunner().invoke(app, ["stats", str(workbook)])
    assert "40 rows, 40 distinct questions" in result.stdout
    assert "5 others" in result.stdout


def test_labels_that_no_font_can_draw_become_numbers_and_the_legend_is_written_beside(tmp_path: Path) -> None:
    rows = [
        [name, "b", f"question {n}", "an answer"] for n, name in enumerate([UNDRAWABLE, "plain", UNDRAWABLE])
    ]
    path = make_workbook(tmp_path / "k.xlsx", {"S": [HEADER, *rows]})
    # A glyph that is missing would be a warning of matplotlib's, which fails a test.
    result = CliRunner().invoke(app, ["stats", str(path), "--picture", str(tmp_path / "s.png")])
    assert f"[1] {UNDRAWABLE}" in result.stdout
    assert (tmp_path / "s.labels.txt").read_text(encoding="utf-8") == f"[1] {UNDRAWABLE}\n"


def test_an_installed_font_that_has_the_characters_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((500, 900))
    pen.lineTo((900, 0))
    pen.closePath()
    glyph = pen.glyph()
    builder = FontBuilder(1000)
    names = [".notdef", "one", "two", "three"]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({0x30EDD: "one", ord("面"): "two", ord("a"): "three"})
    builder.setupGlyf(dict.fromkeys(names, glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Noodle", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "noodle.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "noodle.ttf")
    labels = find_labels([UNDRAWABLE])
    assert labels(UNDRAWABLE) == UNDRAWABLE
    assert labels.font.get_file().endswith("noodle.ttf")
    assert labels("b") == "[1]"


def test_a_dollar_sign_is_no_formula() -> None:
    labels = find_labels(["$5 and $6"])
    assert labels("$5 and $6") == r"\$5 and \$6"
