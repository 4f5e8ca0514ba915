"""Usage adds up to what the legs say, and a tenant sees its own."""

from __future__ import annotations

import csv
import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.main import main
from gateway.database.database import Database
from gateway.errors import ApiError
from gateway.ledger.ledger import Ledger
from gateway.ledger.limiting import LimitBook
from gateway.ledger.usage import GROUPS, OWN_GROUPS, read_query, usage
from providers.base import Usage
from schemas.config import Auth, Settings
from schemas.config import Database as Place
from tests.gateway.fakes import TEXT, FakeProvider, serving
from tests.gateway.ledger.accounts import asking
from tests.gateway.test_auth import key
from tests.gateway.test_parameters import LEAST

DAY = 24 * 3600
KEYS = (key("ci", "sk-first", "acme"), key("app", "sk-second", "acme"), key("lab", "sk-third", "lab"))


async def test_sums_are_those_of_the_legs(database: Database) -> None:
    days = iter([0, 0, 0, DAY, DAY, 2 * DAY])
    ledger = Ledger(database, LimitBook([]), clock=lambda: next(days))
    await (await ledger.reserve(asking("a"))).settle(Usage(5, 2, 3), 1_500_000_000)
    await (await ledger.reserve(asking("b"))).release()
    await (await ledger.reserve(asking("b", number=1))).settle(Usage(1, 0, 1), None)
    await (await ledger.reserve(asking("c", key="app"))).unknown()
    await (await ledger.reserve(asking("d", tenant="lab", nano=7))).estimate(Usage(1, 1, 1), 2)
    await ledger.reserve(asking("e"))
    query = read_query("1970-01-01", "1970-01-03", "day,tenant,key", None, GROUPS)
    lines = {(line.day, line.tenant, line.key): line for line in (await usage(database, query)).data}
    assert list(lines) == [
        ("1970-01-01", "acme", "ci"),
        ("1970-01-02", "acme", "app"),
        ("1970-01-02", "lab", "ci"),
        ("1970-01-03", "acme", "ci"),
    ]
    first, doubtful, other, running = lines.values()
    assert (first.requests, first.attempts, first.unpriced, first.usd, first.held_usd) == (2, 3, 1, "1.5", "0")
    assert (first.prompt_tokens, first.cached_tokens, first.completion_tokens) == (6, 2, 4)
    assert (doubtful.usd, doubtful.held_usd, running.held_usd) == ("0", "0.0000001", "0.0000001")
    assert other.usd == "0.000000002"
    own = await usage(database, read_query("1970-01-02", "1970-01-02", "model", "lab", OWN_GROUPS))
    assert [(line.model, line.requests) for line in own.data] == [("tiny", 1)]


@pytest.mark.parametrize(
    ("since", "until", "group_by", "param"),
    [
        ("yesterday", None, None, "since"),
        (None, "0001-01-02", None, "until"),
        (None, "2026-02-30", None, "until"),
        ("2026-01-02", "2026-01-01", None, "since"),
        ("2020-01-01", "2026-01-01", None, "since"),
        (None, None, "day,tenant", "group_by"),
        (None, None, "day,,key", "group_by"),
        (None, None, "prompt_tokens", "group_by"),
    ],
)
def test_questions_that_make_no_sense(since: str | None, until: str | None, group_by: str | None, param: str) -> None:
    with pytest.raises(ApiError) as refusal:
        read_query(since, until, group_by, "acme", OWN_GROUPS)
    assert (refusal.value.status, refusal.value.param) == (400, param)


def test_over_http_and_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    for variable in [name for name in os.environ if name.startswith("SLUICE_") and name != "SLUICE_CACHE"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLUICE_DATABASE__URL", url)
    with serving(FakeProvider(), Settings(auth=Auth(keys=KEYS), database=Place(url=url))) as base:

        def call(method: str, path: str, text: str, **options: Any) -> Any:
            headers = {"authorization": f"Bearer {text}"}
            return httpx.request(method, f"{base}{path}", headers=headers, **options).json()

        for text in ("sk-first", "sk-first", "sk-second", "sk-third"):
            call("POST", "/v1/chat/completions", text, json=LEAST["chat"])
        call("POST", "/v1/decisions", "sk-third", json=LEAST["decisions"])
        acme = call("GET", "/v1/usage", "sk-second")
        lab = call("GET", "/v1/usage?group_by=key", "sk-third")
        assert call("GET", "/v1/usage?tenant=lab", "sk-first")["error"]["param"] == "tenant"
        assert call("GET", "/v1/usage", "sk-none")["error"]["code"] == "invalid_api_key"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert acme["group_by"] == ["day", "model", "key"] and acme["until"] == today
    assert [(line["key"], line["requests"], line["completion_tokens"]) for line in acme["data"]] == [
        ("app", 1, len(TEXT)),
        ("ci", 2, 2 * len(TEXT)),
    ]
    assert [(line["key"], line["requests"], line["prompt_tokens"]) for line in lab["data"]] == [("lab", 2, 7 + 11)]
    capsys.readouterr()
    assert main(["usage", "--by", "tenant", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["tenant"], row["requests"], row["usd"]) for row in rows] == [("acme", "3", "0"), ("lab", "2", "0")]
    assert main(["usage", "--tenant", "lab"]) == 0
    assert "lab" in capsys.readouterr().out
    assert main(["usage", "--by", "moon"]) == 1
    assert "not by 'moon'" in capsys.readouterr().err
