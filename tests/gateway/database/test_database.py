"""Transactions on both databases: what commits, what rolls back, and who waits for whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text, update

from gateway.database.database import Database
from gateway.database.errors import DatabaseError
from gateway.database.place import database_at, default_url
from gateway.database.sqlite import TemporaryDatabase
from gateway.ledger.tables import Worker


def worker(id: str) -> Worker:
    return Worker(id=id, beats=0, started_at=0)


def beat(connection: Connection) -> int:
    statement = update(Worker).where(Worker.id == "w").values(beats=Worker.beats + 1).returning(Worker.beats)
    return connection.execute(statement).scalar_one()


def beats(connection: Connection) -> int:
    return connection.execute(select(Worker.beats).where(Worker.id == "w")).scalar_one()


async def test_a_session_commits_or_leaves_nothing(database: Database) -> None:
    async with database.session() as session:
        session.add(kept := worker("kept"))
    with pytest.raises(ZeroDivisionError):
        async with database.session() as session:
            session.add(worker("lost"))
            await session.flush()
            _ = 1 / 0
    async with database.reading() as session:
        assert list(await session.scalars(select(Worker.id))) == ["kept"]
    assert kept.beats == 0


async def test_pieces_of_work_add_up_and_one_that_fails_takes_no_other_along(database: Database) -> None:
    async with database.session() as session:
        session.add(worker("w"))

    def failing(connection: Connection) -> int:
        beat(connection)
        raise ZeroDivisionError

    asked = [database.write(failing if i % 7 == 3 else beat) for i in range(100)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    counted = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert sorted(counted) == list(range(1, len(counted) + 1))
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, ZeroDivisionError)] == list(range(3, 100, 7))


async def test_sessions_that_read_and_then_write_lose_no_update(database: Database) -> None:
    """SQLite's driver would let all of them read at once, and then fail all but one."""
    async with database.session() as session:
        session.add(worker("w"))

    async def increment() -> None:
        async with database.session() as session:
            row = await session.get(Worker, "w", with_for_update=True)
            assert row is not None
            row.beats += 1

    await asyncio.gather(*(increment() for _ in range(20)), *(database.write(beat) for _ in range(20)))
    async with database.reading() as session:
        assert await session.scalar(select(Worker.beats)) == 40


async def test_who_reads_waits_for_nobody(database: Database) -> None:
    async with database.session() as session:
        session.add(worker("w"))
        await session.flush()
        async with asyncio.timeout(2), database.reading() as snapshot:
            assert list(await snapshot.scalars(select(Worker.id))) == []


async def test_a_write_is_done_although_its_caller_was_cancelled(database: Database) -> None:
    async with database.session() as session:
        session.add(worker("w"))

    async def write() -> None:
        await database.write(beat)

    async with database.session() as session:
        session.add(worker("other"))
        await session.flush()
        writing = asyncio.create_task(write())
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    for _ in range(1000):  # the write goes on by itself, beside what follows
        if await database.write(beats):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the write was never done")


async def test_two_servers_migrate_one_after_the_other(database_url: str) -> None:
    pair = [database_at(database_url) for _ in range(2)]
    await asyncio.gather(*(database.open() for database in pair))
    for database in pair:
        assert (await database.revisions()).current
        await database.aclose()


async def test_tables_of_a_newer_version_are_left_alone(database: Database, database_url: str) -> None:
    await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    newer = database_at(database_url)
    with pytest.raises(DatabaseError, match="revision 9999, which is newer than "):
        await newer.open()
    await newer.aclose()


async def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    database = database_at(f"postgresql://me@/db?host={tmp_path}")
    with pytest.raises(DatabaseError, match="cannot be used: "):
        await database.open()
    await database.aclose()


@pytest.mark.parametrize("url", ["mysql://me@host/db", "not a url"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(DatabaseError, match=r"`database.url`"):
        database_at(url)


@pytest.mark.parametrize("url", [None, "sqlite://", "sqlite+aiosqlite:///:memory:"])
def test_what_is_in_memory_is_gone_afterwards(url: str | None) -> None:
    database = database_at(url)
    assert isinstance(database, TemporaryDatabase)
    file = Path(str(database.url.database))

    async def use() -> None:
        await database.open()
        assert await asyncio.to_thread(file.exists)
        await database.aclose()

    asyncio.run(use())
    assert not file.parent.exists()


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = database_at(f"sqlite:///{tmp_path / 'new' / 'sluice.db'}")
    await database.open()
    found = await asyncio.to_thread(lambda: [(path.name, path.stat().st_mode) for path in (tmp_path / "new").iterdir()])
    await database.aclose()
    assert "sluice.db" in dict(found)
    assert {mode & 0o777 for _, mode in found} == {0o600}


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseError, match=r"file/sluice\.db cannot be used: Not a directory|File exists"):
        database_at(f"sqlite:///{tmp_path / 'file' / 'sluice.db'}")


def test_the_default_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_url() == "sqlite:////data/sluice/sluice.db"
