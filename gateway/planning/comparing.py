"""A machine of one's own beside each API, for one load: what both cost a month, and where they break even."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from msgspec import Struct

from gateway.planning.apis import Api, rates
from gateway.planning.breaking_even import HOURS_A_MONTH, crossing, machines
from gateway.planning.load import Load
from gateway.planning.problem import PlanProblem


@dataclass(frozen=True, slots=True)
class Own:
    """A machine: ``usd_per_hour``; ``tokens_per_s`` that it generates when it is busy, beside reading prompts as this
    load has them; ``utilisation``: the share of that which is planned for in the busiest hour."""

    usd_per_hour: Fraction
    tokens_per_s: float
    utilisation: float


class OwnCost(Struct, frozen=True, kw_only=True):
    """``carries``: how many times the load one machine serves. ``busy``: the share of a machine's tokens that are asked
    for on average. ``usd_per_mtok``: dollars a million completion tokens, at this load."""

    machines: int
    carries: float
    busy: float
    usd_a_month: float
    usd_per_mtok: float


class ApiCost(Struct, frozen=True, kw_only=True):
    """``usd_per_mtok``: dollars a million completion tokens, their share of the prompts included. ``breaks_even`` and
    ``for_good``: multiples of the load, as of `gateway.planning.breaking_even.Crossing`; None: never."""

    api: str
    usd_a_month: float
    usd_per_mtok: float
    breaks_even: float | None
    for_good: float | None


class BreakEven(Struct, frozen=True, kw_only=True):
    own: OwnCost
    apis: list[ApiCost]


def compare(load: Load, own: Own, apis: Iterable[Api], cached_share: Fraction) -> BreakEven:
    """Raises `PlanProblem` for a load that is none, and where a price is not known."""
    if not load.completion:
        raise PlanProblem("no tokens were generated in that time: give a load with --prompt-tokens and the like")
    a_month = Fraction(HOURS_A_MONTH) / Fraction(load.hours)
    capacity = Fraction(own.tokens_per_s) * 3600
    carries = capacity * Fraction(own.utilisation) / load.peak_completion
    needed = machines(Fraction(1), carries)
    mtok = load.completion * a_month / 1_000_000
    own_month = needed * own.usd_per_hour * HOURS_A_MONTH
    costs: list[ApiCost] = []
    for api in apis:
        month = rates(api, load).of(load, cached_share) * a_month
        found = crossing(month, own.usd_per_hour * HOURS_A_MONTH, carries)
        costs.append(
            ApiCost(
                api=api.name,
                usd_a_month=float(month),
                usd_per_mtok=float(month / mtok),
                breaks_even=None if found.at is None else float(found.at),
                for_good=None if found.for_good is None else float(found.for_good),
            )
        )
    return BreakEven(
        own=OwnCost(
            machines=needed,
            carries=float(carries),
            busy=float(load.completion / Fraction(load.hours) / (needed * capacity)),
            usd_a_month=float(own_month),
            usd_per_mtok=float(own_month / mtok),
        ),
        apis=sorted(costs, key=lambda cost: cost.usd_a_month),
    )
