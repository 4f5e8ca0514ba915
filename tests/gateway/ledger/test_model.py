"""Whatever is done to the ledger in whatever order, its books are those of a model of ten lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.ledger.ledger import Ledger
from gateway.ledger.leg import Leg
from gateway.ledger.limiting import Amounts, LimitBook
from gateway.ledger.refusals import Refused
from gateway.ledger.reservation import Reservation
from providers.base import Usage
from schemas.limits import ScopedLimit
from tests.gateway.databases import Postgres
from tests.gateway.ledger.accounts import Books, books

LIMITS = (
    ScopedLimit(key="a", per="minute", requests=3, tokens=40),
    ScopedLimit(key="b", per="total", usd="0.0000002"),
    ScopedLimit(tenant="t", per="day", tokens=90, usd="0.0000003"),
    ScopedLimit(per="total", requests=12),
)
BOOK = LimitBook(LIMITS)
SMALL = st.integers(0, 30)


@dataclass
class Entry:
    """What the model knows of a leg."""

    leg: Leg
    meters: list[str]
    requests: int
    tokens: int
    nano: int
    state: str = "reserved"


class LedgerMachine(RuleBasedStateMachine):
    """Two processes' ledgers on one database, and a clock that both read."""

    fresh: Postgres | None = None
    legs: Bundle[Entry | None] = Bundle("legs")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.entries: list[Entry] = []
        self.database: Database = database_at(self.fresh.fresh() if self.fresh else None)
        self.runner.run(self.database.open())
        self.ledgers = [Ledger(self.database, BOOK, clock=lambda: self.now) for _ in range(2)]

    def teardown(self) -> None:
        self.runner.run(self.database.aclose())
        self.runner.close()

    def level(self, meter: str) -> Amounts:
        charged = [entry for entry in self.entries if meter in entry.meters]
        return Amounts(
            sum(entry.requests for entry in charged),
            sum(entry.tokens for entry in charged),
            sum(entry.nano for entry in charged),
        )

    @rule(
        target=legs,
        worker=st.integers(0, 1),
        key=st.sampled_from("abc"),
        tenant=st.sampled_from("tu"),
        tokens=SMALL,
        nano=SMALL,
        number=st.integers(0, 1),
    )
    def reserve(self, worker: int, key: str, tenant: str, tokens: int, nano: int, number: int) -> Entry | None:
        meters = BOOK.meters(tenant, key, self.now)
        asked = Amounts(int(number == 0), tokens, nano)
        fits = all(
            # What costs nothing fits a budget that is overrun.
            Amounts(level.requests + asked.requests, level.tokens + tokens, nano and level.nano + nano).within(
                meter.ceiling
            )
            for meter in meters
            for level in (self.level(meter.id),)
        )
        reservation = Reservation("r", tenant, key, "local", "m", nano, tokens, number)
        try:
            leg = self.runner.run(self.ledgers[worker].reserve(reservation))
        except Refused:
            assert not fits
            return None
        assert fits
        entry = Entry(leg, [meter.id for meter in meters], asked.requests, tokens, nano)
        self.entries.append(entry)
        return entry

    @rule(entry=legs, prompt=SMALL, completion=SMALL, nano=SMALL, counted=st.booleans())
    def end(self, entry: Entry | None, prompt: int, completion: int, nano: int, counted: bool) -> None:
        if entry is None or entry.state != "reserved":
            return
        ending = entry.leg.settle if counted else entry.leg.estimate
        self.runner.run(ending(Usage(prompt, 0, completion), nano))
        entry.state = "settled" if counted else "estimated"
        entry.tokens, entry.nano = prompt + completion, nano

    @rule(entry=legs)
    def release(self, entry: Entry | None) -> None:
        if entry is not None and entry.state == "reserved":
            self.runner.run(entry.leg.release())
            entry.state, entry.tokens, entry.nano = "released", 0, 0

    @rule(entry=legs)
    def unknown(self, entry: Entry | None) -> None:
        if entry is not None and entry.state == "reserved":
            self.runner.run(entry.leg.unknown())
            entry.state = "unknown"

    @rule(seconds=st.sampled_from([1, 59, 60, 3600, 86_400]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def the_books_agree(self) -> None:
        found: Books = self.runner.run(books(self.database))
        rows = {row.id: (row.state, row.charged_tokens, row.charged_nano) for row in found.legs}
        assert rows == {entry.leg.id: (entry.state, entry.tokens, entry.nano) for entry in self.entries}
        assert found.meters == {meter: self.level(meter) for entry in self.entries for meter in entry.meters}


def run(machine: type[LedgerMachine], examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )


def test_the_ledger_is_its_model_on_sqlite() -> None:
    run(LedgerMachine, 15)


def test_the_ledger_is_its_model_on_postgresql(postgres: Postgres) -> None:
    class OnPostgres(LedgerMachine):
        fresh = postgres

    run(OnPostgres, 4)


@pytest.mark.slow
def test_the_ledger_is_its_model_at_length() -> None:
    run(LedgerMachine, 200)
