"""Takes docs/' pictures of the chat page, from a server that runs.

    python -m tests.serving.page_pictures http://127.0.0.1:8000 docs

Its questions are those of the sample workbook's quickstart run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.serving.browser import Page, browser_page

_GROUNDED = "血压高的人平时会有哪些感觉?"
_IN_THE_SHEET = "高血压病人一天能吃多少盐?"
_ANSWER_S = 300.0


def take(url: str, folder: Path) -> None:
    """Ask, and save chat.png, chat-compare.png, chat-phone.png and chat-phone-row.png in `folder`."""
    with tempfile.TemporaryDirectory() as profile, browser_page(Path(profile), "zh-CN") as page:
        page.open(url, 1280, 800)
        page.wait("document.querySelector('#model').value === 'tuned-rag'")
        _ask(page, _GROUNDED)
        _ask(page, _IN_THE_SHEET)
        page.picture(folder / "chat.png")
        page.size(390, 844, dark=True)
        page.click(".mark")
        page.wait("document.querySelector('#row').open")
        page.picture(folder / "chat-phone-row.png")
        page.press("Escape")
        page.size(390, 844)
        page.evaluate("document.querySelector('#log').scrollTo(0, 0)")
        page.picture(folder / "chat-phone.png")
        page.size(1280, 800)
        page.click("#language")
        page.click("#compare")
        _ask(page, _GROUNDED)
        page.picture(folder / "chat-compare.png")
        assert page.faults == [], page.faults


def _ask(page: Page, question: str) -> None:
    asked = "document.querySelectorAll('.asked').length"
    before = page.evaluate(asked)
    page.evaluate("document.querySelector('#question').focus()")
    page.type(question)
    page.press("Enter")
    page.wait(f"{asked} > {before}")
    page.wait("!document.querySelector('#send').hidden", _ANSWER_S)


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]))
