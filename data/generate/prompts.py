"""The prompts: short, and answered in plain lines, which a model of half a billion parameters keeps to."""

from __future__ import annotations

from data.generate.chunks import Chunk
from data.records import Row
from data.wording import num_cjk

_MOST_CJK_CHARS = 0.1

_ASK_CHINESE = """资料{topic}：
{text}

请根据这份资料写{num}组问答。要求：问题写清楚问的是什么，不看资料也能懂；答案照抄资料里的原句。格式：
问：（问题）
答：（资料原句）"""
_ASK_ENGLISH = """Material{topic}:
{text}

Write {num} questions with answers from this material. Each question must be clear without the material. Copy each \
answer from the material, word for word. Format:
Q: (question)
A: (sentence of the material)"""
_REWORD_CHINESE = """问题：{text}

请把这个问题换成{num}种不同的说法，意思不变，像普通人平时问的那样。每行写一种，不要回答。"""
_REWORD_ENGLISH = """Question: {text}

Write {num} other ways to ask exactly this question, as people would type it. One a line. Do not answer."""


def ask_prompt(chunk: Chunk, num_questions: int) -> str:
    """Return the prompt for questions and answers about a chunk."""
    topic = " / ".join(chunk.headings)
    if _is_cjk(chunk.text):
        return _ASK_CHINESE.format(topic=f"（{topic}）" if topic else "", text=chunk.text, num=num_questions)
    return _ASK_ENGLISH.format(topic=f" ({topic})" if topic else "", text=chunk.text, num=num_questions)


def reword_prompt(row: Row, num_wordings: int) -> str:
    """Return the prompt for other wordings of a row's question."""
    template = _REWORD_CHINESE if _is_cjk(row.question) else _REWORD_ENGLISH
    return template.format(text=row.question, num=num_wordings)


def _is_cjk(text: str) -> bool:
    return num_cjk(text) > _MOST_CJK_CHARS * len(text)
