"""What the ledger of this process has reserved, charged and refused, for Prometheus.

Names of providers and models are those of the settings, so there are as many series as there are candidates. Series by
tenant and key are made only where `telemetry.by_key` asks for them: there is one of each kind a key.
"""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.ledger.limiting import MeterLimit
from gateway.ledger.reservation import Reservation
from gateway.ledger.statements import State
from providers.base import Usage
from schemas.money import NANO

SCOPES = {"key": "key", "tenant": "tenant", "all": "server"}
"""How ids of meters begin, and what that is called."""


class LedgerFigures:
    """Without a ``registry`` nobody reads them. ``by_key``: count for tenants and keys too."""

    def __init__(self, registry: CollectorRegistry | None = None, *, by_key: bool = False) -> None:
        who = ("provider", "model")
        self._legs = Counter("sluice_ledger_legs", "Attempts, by how they ended.", (*who, "state"), registry=registry)
        self._charged = Counter(
            "sluice_ledger_charged_usd",
            "Dollars charged for attempts that ended; those that are unknown stay charged at their maximum.",
            (*who, "state"),
            registry=registry,
        )
        self._tokens = Counter(
            "sluice_ledger_tokens",
            "Tokens of attempts that ended; cached ones are prompt tokens too.",
            (*who, "kind"),
            registry=registry,
        )
        self._reserved = Gauge(
            "sluice_ledger_reserved_usd", "Dollars reserved for attempts under way in this process.", registry=registry
        )
        self._open = Gauge("sluice_ledger_open_legs", "Attempts under way in this process.", registry=registry)
        self._refusals = Counter(
            "sluice_ledger_refusals",
            "Attempts that did not fit into a limit.",
            ("limit", "per", "scope"),
            registry=registry,
        )
        self._orphans = Counter(
            "sluice_ledger_orphaned_legs", "Attempts of dead processes that this one put in doubt.", registry=registry
        )
        mine = registry if by_key else None
        self._by_key = by_key
        key = ("tenant", "key")
        self._key_legs = Counter("sluice_key_legs", "Attempts that ended, by key.", key, registry=mine)
        self._key_charged = Counter("sluice_key_charged_usd", "Dollars charged, by key.", key, registry=mine)
        self._key_tokens = Counter("sluice_key_tokens", "Tokens, by key.", (*key, "kind"), registry=mine)

    def reserved(self, reservation: Reservation) -> None:
        self._open.inc()
        self._reserved.inc((reservation.max_nano_usd or 0) / NANO)

    def ended(self, reservation: Reservation, state: State, usage: Usage, nano_usd: int | None) -> None:
        """``nano_usd``: what it is charged from now on; None where the price is not known."""
        self._open.dec()
        self._reserved.dec((reservation.max_nano_usd or 0) / NANO)
        who = reservation.provider, reservation.model
        self._legs.labels(*who, state).inc()
        self._charged.labels(*who, state).inc((nano_usd or 0) / NANO)
        counts = {"prompt": usage.prompt, "cached": usage.cached, "completion": usage.completion}
        for kind, count in counts.items():
            self._tokens.labels(*who, kind).inc(count)
        if self._by_key:
            key = reservation.tenant, reservation.key
            self._key_legs.labels(*key).inc()
            self._key_charged.labels(*key).inc((nano_usd or 0) / NANO)
            for kind, count in counts.items():
                self._key_tokens.labels(*key, kind).inc(count)

    def refused(self, what: Literal["usd", "requests", "tokens", "price"], meter: MeterLimit) -> None:
        """``what`` there was too little of on ``meter``, or "price" where nobody knows what it would cost."""
        self._refusals.labels(what, meter.per, SCOPES[meter.id.partition(":")[0]]).inc()

    def orphaned(self, legs: int) -> None:
        self._orphans.inc(legs)
