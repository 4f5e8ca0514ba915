"""What is known of providers: who says so, and that the operator has the last word."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.policy.facts import LOCAL_ENDPOINT, NOWHERE_ELSE, Endpoint, Known, known_of, shipped
from schemas.routing import Fact

OPENAI = Endpoint("openai", "managed", "https://api.openai.com/v1")


def test_shipped_facts_have_sources_and_dates() -> None:
    assert len(shipped()) > 3
    for fact in shipped():
        assert fact.host is not None
        assert fact.source.startswith("https://")
        assert fact.date <= date.today()
        assert any(value is not None for value in (fact.trains, fact.retention_days, fact.regions))


def test_of_a_host_without_facts_nothing_is_known() -> None:
    assert known_of(Endpoint("new", "managed", "https://api.example.com"), ()) == Known()


def test_a_fact_is_about_its_host_alone() -> None:
    for url in ("https://api.openai.com.example.org", "https://example.org/api.openai.com", "https://xapi.openai.com"):
        assert known_of(Endpoint("fake", "managed", url), ()) == Known()


def test_a_star_is_for_what_lies_below() -> None:
    below = Endpoint("azure", "managed", "https://mine.openai.azure.com/openai/v1")
    beside = Endpoint("azure", "managed", "https://mineopenai.azure.com/openai/v1")
    assert known_of(below, ()).trains is False
    assert known_of(beside, ()).trains is None


def test_the_settings_overrule_what_is_shipped_fact_by_fact() -> None:
    agreed = Fact(provider="openai", retention_days=0, source="contract 17", date=date(2026, 3, 1))
    before, after = known_of(OPENAI, ()), known_of(OPENAI, (agreed,))
    assert (before.retention_days, after.retention_days) == (30, 0)
    assert before.trains is after.trains is False
    assert dict(after.sources)["retention_days"] == "contract 17 (2026-03-01)"
    assert known_of(Endpoint("openai-2", "managed", OPENAI.base_url), (agreed,)) == before


def test_of_an_own_server_only_the_operator_knows_more_than_that_it_does_not_train() -> None:
    known = known_of(Endpoint("ours", "self_hosted", "http://10.0.0.1:8000/v1"), ())
    assert (known.trains, known.retention_days, known.regions) == (False, None, None)


def test_the_local_engine_keeps_everything_here() -> None:
    assert known_of(LOCAL_ENDPOINT, ()) is NOWHERE_ELSE


@pytest.mark.parametrize("about", [{}, {"provider": "a", "host": "b"}, {"provider": "local"}])
def test_a_fact_is_about_one_provider_or_one_host(about: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"fact|local"):
        Fact(source="s", date=date(2026, 1, 1), trains=False, **about)  # type: ignore[arg-type]
