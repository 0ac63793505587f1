"""Names that an answer must not change: Latin words in Chinese text, and medicines by their international stems.

The stems are those of the WHO's list of international nonproprietary names and their usual Chinese
transliterations. A medicine without such a stem is not found in English text. Pure text.
"""

from __future__ import annotations

import re

from data.records import normalised
from rag.terms import has_cjk

_LATIN = re.compile(r"(?<![a-z0-9])[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![a-z0-9])")
_MIN_LATIN = 3
# Latin words that are units or wording, not names.
_NO_NAMES = frozenset(
    {
        "the", "and", "for", "with", "not", "per", "min", "max", "day", "days", "kcal", "mmol", "mmhg", "mcg",
        "www", "http", "https", "com", "html",
    }
)  # fmt: skip
_STEM = re.compile(
    r"\b[a-z]{2,}(?:cillin|mycin|oxacin|cycline|azole|prazole|pril|sartan|olol|statin|dipine|gliptin|gliflozin|glutide|"
    r"formin|glitazone|tidine|setron|triptan|profen|coxib|fenac|azepam|azolam|barbital|caine|vir|mab|tinib|parin|"
    r"xaban|gatran|grel|sone|solone|terol|tropium|lukast|fibrate|thiazide|semide|oxetine|traline|pramine|triptyline|"
    r"apine|peridone|codone|morphine|fentanil|setamol|aminophen|aspirin|insulin|warfarin|digoxin)s?\b"
)
# The stem with the two characters before it: enough to tell two medicines of one class apart, and free of the verb
# that may stand in front (服用阿托伐他汀).
_CHINESE_STEM = re.compile(
    "[\u4e00-\u9fff]{2}(?:西林|霉素|沙星|环素|拉唑|康唑|硝唑|普利|沙坦|洛尔|他汀|地平|列汀|列净|鲁肽|双胍|列酮|替丁|司琼|"
    "曲坦|洛芬|昔布|酚酸|西泮|唑仑|巴比妥|卡因|韦|单抗|替尼|肝素|沙班|加群|格雷|松龙|米松|特罗|溴铵|司特|贝特|噻嗪|塞米|"
    "西汀|曲林|氨酚|匹林|法林|高辛|胰岛素)"
)


def names(text: str) -> frozenset[str]:
    """Return the names in a text, normalised."""
    normal = normalised(text)
    found = {match.group() for match in _STEM.finditer(normal)}
    if has_cjk(normal):
        words = (match.group() for match in _LATIN.finditer(normal))
        found |= {word for word in words if len(word) >= _MIN_LATIN and word not in _NO_NAMES}
        found |= {match.group() for match in _CHINESE_STEM.finditer(normal)}
    return frozenset(found)
