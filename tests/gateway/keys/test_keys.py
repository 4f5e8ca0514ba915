"""Keys in the database: what opens the server, what no longer does, and what is kept of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import Caller
from gateway.cli.keys import limit, spelled
from gateway.cli.main import main
from gateway.database.database import Database
from gateway.database.place import database_at
from gateway.keys.minting import digest, lookup_of, mint
from gateway.keys.problem import KeyProblem
from gateway.keys.registry import create_key, limits_of, list_keys, revoke_key
from gateway.keys.stored import StoredKeys
from schemas.config import Auth, Settings
from schemas.config import Database as Place
from schemas.limits import Limit, Per
from tests.gateway.fakes import FakeProvider, serving, wait_until
from tests.gateway.test_parameters import LEAST


def test_a_minted_key_is_long_and_random() -> None:
    one, other = mint(), mint()
    assert one.key != other.key and len(one.key) > 50
    assert lookup_of(one.key) == one.lookup
    assert digest(one.key).hex() == one.sha256


async def test_a_server_takes_changes_up(database: Database) -> None:
    stored = StoredKeys(database)
    await stored.open()
    assert not stored.exist
    limits = (Limit(per="month", usd="25.50"), Limit(per="minute", requests=60, tokens=9))
    first = await create_key(database, "ci", "acme", limits)
    second = await create_key(database, "app", "acme")
    assert stored.caller(first.key) is None
    await stored.refresh()
    assert stored.exist
    assert stored.caller(first.key) == Caller("ci", "acme")
    assert stored.caller(second.key) == Caller("app", "acme")
    assert stored.limits("ci") == limits
    await revoke_key(database, "ci")
    await stored.refresh()
    assert stored.caller(first.key) is None and stored.limits("ci") == ()
    await revoke_key(database, "app")
    await stored.refresh()
    assert stored.exist, "revoking the last key must not open the server"
    await stored.aclose()


async def test_only_the_whole_key_opens(database: Database) -> None:
    stored = StoredKeys(database)
    minted = await create_key(database, "ci", "acme")
    await stored.open()
    others = (minted.key[:-1], minted.key + "x", minted.sha256, minted.lookup, f"sk-sluice-{minted.lookup}-", "", "sk")
    assert [stored.caller(other) for other in others] == [None] * len(others)
    assert stored.caller(minted.key) is not None
    await stored.aclose()


@pytest.mark.parametrize(
    ("name", "tenant", "what"), [("", "acme", "name"), ("ci\n", "acme", "name"), ("ci", "", "tenant")]
)
async def test_a_name_is_a_word(name: str, tenant: str, what: str) -> None:
    """An empty one is that of callers of an open server; others would break the lines that they are printed in."""
    with pytest.raises(KeyProblem, match=f"the {what} of a key"):
        await create_key(database_at("sqlite://"), name, tenant)


async def test_a_name_is_used_once(database: Database) -> None:
    await create_key(database, "ci", "acme")
    with pytest.raises(KeyProblem, match="there is or was a key 'ci'"):
        await create_key(database, "ci", "lab")
    await revoke_key(database, "ci")
    with pytest.raises(KeyProblem, match="there is or was a key 'ci'"):
        await create_key(database, "ci", "lab")
    with pytest.raises(KeyProblem, match="revoked already"):
        await revoke_key(database, "ci")
    with pytest.raises(KeyProblem, match="there is no key 'app'"):
        await revoke_key(database, "app")
    assert [key.tenant for key in await list_keys(database)] == ["acme"]


@given(st.sampled_from(["requests", "tokens"]), st.sampled_from(get_args(Per)), st.integers(0, 9999))
def test_limits_are_spelled_as_they_are_read(what: str, per: str, amount: int) -> None:
    text = f"{what}/{per}={amount}"
    assert spelled(limit(text)) == [text]


@pytest.mark.parametrize("text", ["usd", "usd/month", "euro/month=1", "usd/year=1", "usd/month=-1", "tokens/day=1.5"])
def test_limits_that_make_no_sense(text: str) -> None:
    with pytest.raises(KeyProblem, match="limit"):
        limit(text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'sluice.db'}"
    for variable in [name for name in os.environ if name.startswith("SLUICE_") and name != "SLUICE_CACHE"]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("SLUICE_DATABASE__URL", url)
    return url


def test_the_command_line_and_a_running_server(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(database=Place(url=place), auth=Auth(required=True))
    with serving(FakeProvider(), settings) as url, httpx.Client(base_url=url) as http:

        def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return http.post("/v1/chat/completions", json=LEAST["chat"], headers=headers).status_code

        assert status("") == status("sk-sluice-0-0") == 401
        assert main(["keys", "create", "ci", "--tenant", "acme", "--limit", "usd/month=25.5"]) == 0
        key = capsys.readouterr().out.split()[-1]
        wait_until(lambda: status(key) == 200)
        assert main(["keys", "create", "ci", "--tenant", "acme"]) == 1
        assert "there is or was a key 'ci'" in capsys.readouterr().err
        assert main(["keys", "list"]) == 0
        listed = capsys.readouterr().out
        assert "ci  tenant acme, usd/month=25.5, made " in listed
        assert key not in listed
        assert main(["keys", "revoke", "ci"]) == 0
        wait_until(lambda: status(key) == 401)
        assert main(["keys", "list"]) == 0
        assert "revoked" in capsys.readouterr().out


async def test_nothing_of_a_key_but_its_hash_is_kept(database: Database) -> None:
    minted = await create_key(database, "ci", "acme", [Limit(per="total", tokens=5)])
    (row,) = await list_keys(database)
    secret = minted.key.rpartition(minted.lookup)[2].lstrip("-")
    assert secret not in repr(row.to_dict())
    assert limits_of(row) == (Limit(per="total", tokens=5),)
