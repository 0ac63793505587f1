"""Compares every two rows on different sides of a prepared split, independently of how it was made.

    python benchmarks/check_split.py var/runs/NAME/dataset

Two measures: the split's own (Jaccard over the n-grams of the canonical question), and Jaccard over the character
bigrams of the question as it stands, letters and digits only. Exit status 1 when a pair is at or above the threshold
by either. Compares all pairs in plain loops: some seconds for 3,000 rows.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

from data.wording import canonical


def own_grams(question: str) -> frozenset[str]:
    """The documented measure, written out anew."""
    text = canonical(question)
    cut = [text[n : n + (2 if ord(text[n]) > 0x2E80 else 3)] for n in range(len(text))]
    return frozenset(part for part in cut if len(part) > 1 or len(text) == 1)


def plain_bigrams(question: str) -> frozenset[str]:
    """Bigrams of the letters and digits, nothing folded but width and case."""
    text = "".join(c for c in unicodedata.normalize("NFKC", question).casefold() if c.isalnum())
    return frozenset(text[n : n + 2] for n in range(len(text) - 1))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right) if left | right else 0.0


def main(dataset: Path) -> int:
    split = json.loads((dataset / "split.json").read_text(encoding="utf-8"))
    threshold = split["settings"]["threshold"]
    rows = [json.loads(line) for line in (dataset / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    sides = {
        side: [row for row in rows if split["sides"][row["row_id"]] == side]
        for side in ("train", "validation", "test")
    }
    result: dict[str, object] = {
        "threshold": threshold,
        "num_rows": {side: len(held) for side, held in sides.items()},
    }
    num_bad = 0
    for name, grams in (("own", own_grams), ("plain", plain_bigrams)):
        cut = {side: [grams(row["question"]) for row in held] for side, held in sides.items()}
        alike = [
            jaccard(left, right)
            for one, other in (("train", "validation"), ("train", "test"), ("validation", "test"))
            for left in cut[one]
            for right in cut[other]
        ]
        num_above = sum(value >= threshold for value in alike)
        num_bad += num_above
        result[name] = {
            "num_pairs": len(alike),
            "max": round(max(alike, default=0), 4),
            "num_at_or_above": num_above,
        }
    print(json.dumps(result))
    return 1 if num_bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
