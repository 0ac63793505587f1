"""The loss of several adapters on the same held-out rows, by the same code: one process, one base model.

    python -m benchmarks.train.held_out --base DIR --rows FILE... --adapter NAME=DIR... --out FILE

The base is loaded once in bfloat16, as it is served, and each adapter put on it by PEFT. A row goes alone through
transformers' own forward pass, without padding or packing; only its answer counts, and its logits are float32.
Writes, by adapter and file, each row's summed loss; and each row's number of labels. `none` is the base alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BASE_ALONE = "none"


def main() -> None:
    """Evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, nargs="+", required=True)
    parser.add_argument("--adapter", nargs="+", required=True, help="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    adapters = dict(item.split("=", 1) for item in options.adapter)
    result = evaluate(options.base, options.rows, {name: Path(path) for name, path in adapters.items()})
    options.out.write_text(json.dumps(result), encoding="utf-8")


def evaluate(base: Path, files: Sequence[Path], adapters: dict[str, Path]) -> dict[str, Any]:
    """Return `labels`: {file: [labels a row]} and `losses`: {adapter: {file: [summed loss a row]}}."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.examples import encode, read_conversations

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = {path.stem: [encode(item, tokenizer, 4096) for item in read_conversations(path)] for path in files}
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.eval()

    def losses(of: Any) -> dict[str, list[float]]:
        return {name: [row_loss(of, item) for item in items] for name, items in rows.items()}

    found = {BASE_ALONE: losses(model)}
    for name, folder in adapters.items():
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
        adapted.eval()
        found[name] = losses(adapted)
        model = adapted.unload()
    return {
        "labels": {name: [item.num_labels for item in items] for name, items in rows.items()},
        "losses": found,
    }


def row_loss(model: Any, example: Any) -> float:
    """Return the summed cross-entropy of one example's answer."""
    import torch
    from torch.nn import functional

    ids = torch.tensor([example.ids])
    with torch.inference_mode():
        logits = model(input_ids=ids, logits_to_keep=example.num_labels + 1).logits[0, :-1].float()
    return float(functional.cross_entropy(logits, ids[0, -example.num_labels :], reduction="sum"))


if __name__ == "__main__":
    main()
