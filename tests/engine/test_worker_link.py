"""Workers that stand by: taken when they are there, replaced when they are taken, and polite while they load."""

from __future__ import annotations

import queue
import subprocess
import sys

import pytest

from engine.grammar_worker import Compile, CompiledReply
from engine.worker_link import Replies, Spare, WorkerLink
from schemas.constraint import ChoiceSpec


@pytest.fixture
def links():  # type: ignore[no-untyped-def]
    made: list[WorkerLink] = []
    yield made
    for link in made:
        link.kill()


def test_the_first_has_to_wait_and_the_second_does_not(links: list[WorkerLink]) -> None:
    replies: Replies = queue.SimpleQueue()

    def make() -> WorkerLink:
        links.append(WorkerLink(replies, lambda: None, stand_by=True))
        return links[-1]

    spare = Spare(make)
    assert spare.take() is None
    assert spare._making is not None  # pyright: ignore[reportPrivateUsage]
    spare._making.join()  # pyright: ignore[reportPrivateUsage]
    taken = spare.take()
    assert taken is links[0] and links[0].process.is_alive()
    spare._making.join()  # pyright: ignore[reportPrivateUsage]
    links[1].kill()
    links[1].process.join()
    assert spare.take() is None, "one that has died is nobody's"
    spare.close()
    links[2].process.join(10)
    assert [link.process.is_alive() for link in links] == [True, False, False]


def test_one_that_stood_by_works_as_any(links: list[WorkerLink]) -> None:
    replies: Replies = queue.SimpleQueue()
    link = WorkerLink(replies, lambda: None, stand_by=True)
    links.append(link)
    link.send(Compile(7, ChoiceSpec(["yes", "no"]), b"\x01" * 256))
    owner, reply = replies.get(timeout=60)
    assert owner is link and isinstance(reply, CompiledReply) and reply.program == 7
    link.kill()
    assert replies.get(timeout=60) == (link, None)


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to threads on Linux only")
def test_only_loading_has_a_low_priority() -> None:
    program = """
import os, sys, threading, types
import engine.grammar_process as process
def nice(): return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
seen = []
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "later": seen.append(nice())
sys.meta_path.insert(0, Finder())
later = types.SimpleNamespace(run=lambda connection: seen.append(nice()))
process.importlib = types.SimpleNamespace(import_module=lambda name: seen.append(nice()) or later)
before = nice()
process.run(None, True)
assert seen == [max(10, before), before, before], (before, seen)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
