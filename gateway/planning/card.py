"""Plans as tables for people, with what they assume."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.planning.breaking_even import HOURS_A_MONTH
from gateway.planning.comparing import BreakEven, Own
from gateway.planning.load import Load, Pace
from gateway.planning.sizing import Fit


def break_even(load: Load, own: Own, found: BreakEven, pace: Pace | None) -> str:
    mine = found.own
    size = f"{load.prompt / load.requests:.0f} prompt and {load.completion / load.requests:.0f} completion tokens"
    lines = [
        f"Load      {load.requests / load.hours:,.1f} requests an hour of {size} on average; "
        f"the busiest hour had {load.peak_completion * load.hours / load.completion:.1f} times the mean",
        f"Your own  {mine.machines} x ${float(own.usd_per_hour):g} an hour = ${mine.usd_a_month:,.2f} a month, "
        f"${mine.usd_per_mtok:,.2f} a million completion tokens; busy {mine.busy:.1%} of the time",
        f"          one machine generates {own.tokens_per_s:,.0f} tokens/s and is planned at {own.utilisation:.0%} in "
        f"the busiest hour: enough for {mine.carries:.2f} times this load",
        "",
    ]
    rows = [["API", "$ a month", "$ a million", "breaks even at", "for good from"]]
    for api in found.apis:
        crossed = [_times(api.breaks_even), _times(api.for_good)]
        rows.append([api.api, f"{api.usd_a_month:,.2f}", f"{api.usd_per_mtok:,.2f}", *crossed])
    lines += _table(rows)
    lines += [
        "",
        f"A month has {HOURS_A_MONTH} hours; machines are paid for all of them. A million: completion tokens, with the",
        "prompts that go with them. Tokens are as counted here; other tokenizers differ by some per cent. Left out:",
        "people, second machines for when one fails, and what answers are worth.",
    ]
    if pace is not None:
        busy = f"{pace.completion:,} tokens in the {pace.seconds:,.0f} s in which it was asked"
        lines.append(f"The ledger has {busy}: {pace.tokens_per_s:,.0f} tokens/s, the least that the engine can do.")
    return "\n".join(lines)


def fit(found: Fit) -> str:
    lines = [
        f"{found.machine}: {found.memory_gib:.1f} GiB = {found.weights_gib:.2f} weights "
        f"({found.parameters / 1e9:.3g} billion) + {found.reserve_gib:.1f} aside + {found.cache_gib:.1f} cache "
        f"at {found.token_bytes / 1024:.1f} KiB a token",
        f"engine.kv_memory_mb can be {found.kv_memory_mb}",
        "",
    ]
    rows = [["context", "sequences", "tokens/s at most", "of one alone"]]
    for line in found.lines:
        rows.append(
            [f"{line.context:,}", f"{line.sequences:,}", _rate(line.tokens_per_s), _rate(line.alone_tokens_per_s)]
        )
    lines += _table(rows)
    longest = ", ".join(f"{one.context:,} of {one.sequences}" for one in found.longest)
    return "\n".join([*lines, "", f"Longest contexts at once: {longest}"])


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:,.0f}" if tokens_per_s else "-"


def _times(scale: float | None) -> str:
    return "never" if scale is None else f"{scale:.2f} x this load"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]
