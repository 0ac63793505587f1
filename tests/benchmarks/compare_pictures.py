"""Takes docs/' pictures of a comparison's report, at the widths of a desk and of a phone.

python -m tests.benchmarks.compare_pictures docs/reports/sample/compare.html docs
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.serving.browser import browser_page


def take(report: Path, folder: Path, name: str = "compare") -> None:
    """Save NAME.png (the findings), NAME-questions.png and NAME-phone.png in `folder`."""
    with tempfile.TemporaryDirectory() as profile, browser_page(Path(profile)) as page:
        page.open(report.resolve().as_uri(), 1280, 1400)
        page.picture(folder / f"{name}.png")
        if page.evaluate("!!document.querySelector('#questions')"):
            page.evaluate("document.querySelector('.answers details')?.setAttribute('open', '')")
            page.evaluate("document.querySelector('#questions').scrollIntoView()")
            page.picture(folder / f"{name}-questions.png")
        page.open(report.resolve().as_uri(), 390, 1400)
        page.picture(folder / f"{name}-phone.png")
        assert page.evaluate("document.documentElement.scrollWidth <= 390"), "wider than a phone"
        assert page.faults == [], page.faults


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
