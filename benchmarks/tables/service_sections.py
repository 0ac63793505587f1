"""What results about the gateway say: its cost, overload, fuzzing. Pure functions."""

from __future__ import annotations

from benchmarks.tables.shape import Result, Section, percent, table


def _gateway_lines(result: Result) -> list[tuple[str, str]]:
    ours = result["systems"]["groundtune"]
    whole, added = ours["throughput"]["whole"], ours["added_ms"]["whole"]
    lines = [
        (
            "the gateway on one core",
            f"{whole['per_second']:,.0f} requests a second, {ours['events_per_s']:,} streamed events a second; at "
            f"{result['settings']['rate']:g} requests a second it adds {added['p50']:.1f} ms (p50), "
            f"{added['p99']:.1f} ms (p99)",
        )
    ]
    if "steps" in ours:
        firsts = {width: found["added_first_ms"]["p50"] for width, found in ours["steps"].items()}
        lines.append(
            (
                f"what it adds to a request and its first token while {', '.join(firsts)} streams get theirs (p50)",
                ", ".join(f"{first:+.1f}" for first in firsts.values()) + " ms",
            )
        )
    if "litellm" in result["systems"]:
        theirs = result["systems"]["litellm"]
        lines.append(
            (
                f"LiteLLM's proxy {result['litellm']} on that core",
                f"{theirs['throughput']['whole']['per_second']:,.0f} requests, {theirs['events_per_s']:,} events a "
                f"second ({result['times_litellm']['requests, whole']} times fewer requests)",
            )
        )
    return lines


def _gateway_body(result: Result) -> str:
    rows = [
        (
            name,
            *(f"{found['throughput'][kind]['per_second']:,.0f}" for kind in ("whole", "streamed")),
            f"{found['events_per_s']:,}",
            *(
                f"{found['added_ms'][kind][part]:.2f}"
                for kind in ("whole", "streamed")
                for part in ("p50", "p99")
            ),
        )
        for name, found in result["systems"].items()
    ]
    head = ("", "requests/s", "streams/s", "events/s", "p50", "p99", "p50, streamed", "p99, streamed")
    settings = result["settings"]
    return table(head, rows) + (
        f"\n\nEach system on the same core in turn; the load and an upstream that answers at once share the other. "
        f"{settings['concurrency']} requests under way; a stream has {settings['tokens']['short']} events, where "
        f"events are counted {settings['tokens']['long']}. p50 and p99: milliseconds added to the upstream's own at "
        f"{settings['rate']:g} requests a second, Poisson, to the end of the answer. Where a system cannot answer that "
        f"many, its times are those of a queue. LiteLLM {result['litellm']}, one worker, its default settings."
        + _steps(result)
    )


def _steps(result: Result) -> str:
    """Return what becomes of tokens that come for all streams at once, where that was measured."""
    rows = [
        (
            name,
            int(width),
            f"{found['added_first_ms']['p50']:+.1f} / {found['added_first_ms']['p99']:+.1f}",
            f"{found['added_next_ms']['p50']:+.1f} / {found['added_next_ms']['p99']:+.1f}",
            f"{found['processor_us']:.0f}",
        )
        for name, system in result["systems"].items()
        for width, found in system.get("steps", {}).items()
        if name != "upstream alone"
    ]
    if not rows:
        return ""
    head = ("", "streams", "request and first token", "a later token", "processor µs a token")
    return (
        f"\n\nAn engine works in steps: here each of its streams gets a token every "
        f"{result['settings']['step_ms']:g} ms, all at the same moment, while new questions of about 700 tokens come "
        "as answers end. What is added to the time that they are under way (p50 / p99, ms):\n\n"
        + table(head, rows)
    )


def _overload_lines(result: Result) -> list[tuple[str, str]]:
    found, gone = result["overload"], result["clients_that_go_away"]
    return [
        (
            f"ten times more requests than the engine can answer, {found['seconds']:g} s",
            f"{percent(found['goodput_of_peak'])} of the peak is answered; the rest is refused in "
            f"{found['refused_ms']['p50']:.1f} ms (p50), {found['refused_ms']['p99']:.0f} ms (p99)",
        ),
        (
            f"{gone['clients']} clients that go away in the middle",
            f"engine idle after {gone['engine_idle_after_s']} s",
        ),
    ]


def _overload_body(result: Result) -> str:
    found, gone = result["overload"], result["clients_that_go_away"]
    rows = [
        ("peak, answers a second", found["peak_per_s"]),
        ("asked, requests a second", found["asked_per_s"]),
        ("answered in time, a second", found["goodput_per_s"]),
        ("of the peak", percent(found["goodput_of_peak"])),
        *((f"outcome: {name}", number) for name, number in found["outcomes"].items()),
        *((f"refused after, {part} (ms)", value) for part, value in found["refused_ms"].items()),
        *((f"memory, {when} (MB)", value) for when, value in found["memory_mb"].items()),
        (f"{gone['clients']} clients go away: engine idle after (s)", gone["engine_idle_after_s"]),
        ("tasks before and after", f"{gone['tasks']['before']}, {gone['tasks']['after']}"),
        ("open files before and after", f"{gone['open_files']['before']}, {gone['open_files']['after']}"),
    ]
    return table(("", ""), rows)


def _fuzz_lines(result: Result) -> list[tuple[str, str]]:
    return [
        (
            f"schemathesis {result['schemathesis']} over /openapi.json",
            f"{result['cases']:,} cases, with and without keys: {result['server_errors']} answers of 5xx, "
            f"{result['failures']} failed checks",
        )
    ]


def _fuzz_body(result: Result) -> str:
    rows = [
        (
            name,
            f"{run['cases']:,}",
            run["server_errors"],
            sum(run["failed_checks"].values()),
            ", ".join(f"{status}: {number}" for status, number in run["statuses"].items()),
        )
        for name, run in result["runs"].items()
    ]
    return table(("", "cases", "5xx", "failed checks", "statuses"), rows)


def _overhead_lines(result: Result) -> list[tuple[str, str]]:
    added = result["added_ms"]
    low, high = added["p50_interval"]
    return [
        (
            f"RAG through the gateway, {result['base']}: first token beyond search and the same prompt",
            f"{added['p50']:+.1f} ms (p50) [{low:.1f}, {high:.1f}]",
        )
    ]


def _overhead_body(result: Result) -> str:
    found = [(f"{result['base']}, sent at once", result)]
    if held := result.get("held_until_supported"):
        found.append((f"{held['base']}, held", held))
    rows = [
        (
            name,
            of_one["pairs"],
            f"{of_one['ttft_ms']['rag']['p50']:.1f}",
            f"{of_one['ttft_ms']['same_prompt']['p50']:.1f}",
            f"{of_one['search_ms']['p50']:.1f}",
            "{:+.1f} [{:.1f}, {:.1f}]".format(of_one["added_ms"]["p50"], *of_one["added_ms"]["p50_interval"]),
        )
        for name, of_one in found
    ]
    head = ("", "questions", "TTFT, base-rag", "TTFT, its prompt to base", "search", "added")
    return table(head, rows) + (
        "\n\nMedians in milliseconds on a CPU, prompts that the engine has read before. By default an answer is held "
        "until its first sentence is seen to be a row's, so that the row can take its place: the engine's time, not "
        "the gateway's. `retrieve.quote_unsupported: false` sends it at once."
    )


SERVICE_SECTIONS = (
    Section("gateway", "The gateway", _gateway_lines, _gateway_body),
    Section("rag-overhead", "What RAG adds to the first token", _overhead_lines, _overhead_body),
    Section("overload", "Overload", _overload_lines, _overload_body),
    Section("fuzz-api", "Fuzzing the API", _fuzz_lines, _fuzz_body),
)
