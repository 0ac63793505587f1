"""The words that a grounded model is given, in Chinese and in English. Chosen by asking a 0.5B model.

Both who asks (rag.grounding) and who trains (data.grounded) put a prompt together here, so that both are the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data.records import Row
from data.wording import num_cjk

# A row's own footnote marks ("[5]" copied from an encyclopedia) would be taken for citations.
_FOOTNOTE = re.compile(r"\s*[\[【［]\s*\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*\s*[\]】］]")


_OTHERS_PER_TOKEN = 3


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has where no tokenizer is at hand: rather too many."""
    characters = num_cjk(text)
    return characters + -(-(len(text) - characters) // _OTHERS_PER_TOKEN)


def without_footnotes(text: str) -> str:
    """Return a cell's text without footnote marks of its own."""
    return _FOOTNOTE.sub("", text)


@dataclass(frozen=True)
class Wording:
    """One language's rules, layout of a row, and refusal.

    `row_layout` has the fields marker, topic, question and answer. `pointer`, which takes the place of the user's
    last message, has asked (that message) and question (that of the best row); `see_also` has question and marker,
    `nearest`, which may follow a refusal, question.
    """

    rules: str
    row_layout: str
    pointer: str
    see_also: str
    refusal: str
    nearest: str

    def system(self, own: str, rows: Sequence[Row], others: Sequence[str] = ()) -> str:
        """Return the system message: the knowledge base's own, the rules, those of a client, and the rows."""
        parts = [own.strip(), self.rules, *others, self.rows_text(rows)]
        return "\n\n".join(part for part in parts if part.strip())

    def rows_text(self, rows: Sequence[Row]) -> str:
        """Return the rows as the model sees them; `[n]` is the n-th."""
        return "\n\n".join(self.row_text(row, number) for number, row in enumerate(rows, start=1))

    def row_text(self, row: Row, number: int = 1) -> str:
        """Return one row as the model sees it, marked `[number]`."""
        return self.row_layout.format(
            marker=f"[{number}]",
            topic=" ".join(part for part in (row.info_1, row.info_2) if part),
            question=row.question,
            answer=without_footnotes(row.answer),
        )

    def pointing(self, asked: str, best: Row) -> str:
        """Return the last message with the best row named: a small model otherwise copies whichever comes first."""
        return self.pointer.format(asked=asked, question=best.question.strip())

    def also_see(self, row: Row, marker: int) -> str:
        """Return the line that leads to a row which may as well be the one that was asked for."""
        return self.see_also.format(question=row.question.strip(), marker=f"[{marker}]")

    def refused(self, nearest: Row | None) -> str:
        """Return the refusal; who was refused for his wording learns from the nearest row's which one is known."""
        lead = "" if nearest is None else self.nearest.format(question=nearest.question.strip())
        return f"{self.refusal}{lead}"


CHINESE = Wording(
    rules="请根据下面的资料回答用户的问题。回答要用资料里“答”的原话，写成完整的句子，不要只说“是”或“不是”，"
    "也不要补充资料以外的内容。",
    row_layout="{marker} {topic}\n问：{question}\n答：{answer}",
    pointer="{asked}\n\n知识库里最接近的问题是“{question}”，请照抄它的答案。",
    see_also="另请参阅：{question}{marker}",
    refusal="知识库中没有能回答这个问题的内容。请换一种说法再问，或咨询相关的专业人员。",
    nearest="最接近的条目是“{question}”，如果想问的就是它，请照原样再问一次。",
)
ENGLISH = Wording(
    rules="Answer the user's question from the entries below. Use the words of the entry's answer in full "
    "sentences, not just yes or no, and add nothing that the entries do not say.",
    row_layout="{marker} {topic}\nQ: {question}\nA: {answer}",
    pointer='{asked}\n\nThe closest question among the entries is "{question}". Copy its answer.',
    see_also="See also: {question} {marker}",
    refusal="The knowledge base holds nothing that answers this question. Please rephrase it, or ask an expert.",
    nearest=' The nearest entry is "{question}": if that is what you mean, ask it in these words.',
)


def wording_for(question: str) -> Wording:
    """Return the wording in the question's language."""
    return CHINESE if num_cjk(question) else ENGLISH
