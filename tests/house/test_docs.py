"""What the pages say that can be looked up: links, routes, commands, targets and modules."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.cli.main import parser
from gateway.openapi import CONVERSATIONS, FILES, OPERATIONS, STORED

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
EACH = pytest.mark.parametrize("page", TEXTS)
SHELL = re.compile(r"```(?:console|bash|sh)\n(.*?)```", re.DOTALL)


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        there = (ROOT / page).parent / file if file else ROOT / page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there.read_text()), link


@EACH
def test_targets_and_modules_are_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^\$ |^    )make ([a-z][a-z-]*)", TEXTS[page], re.MULTILINE)) <= targets
    for module in re.findall(r"python -m ([\w.]+)", TEXTS[page]):
        assert find_spec(module.rstrip(".")) is not None, module


@EACH
def test_commands_are_understood(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of blocks for a shell, as they stand there."""
    for block in SHELL.findall(TEXTS[page]):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"\$ (?:\S+=\S+ )*(?:\.venv/bin/)?sluice (.*)", line):
                try:
                    parser().parse_args(shlex.split(found[1], comments=True))
                except SystemExit as refused:
                    pytest.fail(f"{line}: {capsys.readouterr().err}" if refused.code else line)


def test_the_readme_names_every_command() -> None:
    table = "\n".join(re.findall(r"^\| `sluice .*$", TEXTS["README.md"], re.MULTILINE))
    usage = parser().format_help()
    commands = re.findall(r"^    ([a-z]+) {2,}", usage, re.MULTILINE)
    assert len(commands) > 5
    assert [name for name in commands if f"`sluice {name}" not in table] == []


def test_the_page_on_the_api_names_every_route() -> None:
    """Of ids it says ``{id}``."""
    head = TEXTS["docs/api.md"].partition("## Asking for structure")[0]
    rows = [row for row in head.splitlines() if row.startswith("| `")]
    said = "\n".join(rows)
    for operation in (*OPERATIONS, *STORED, *FILES, *CONVERSATIONS):
        path = re.sub(r"\{(?!model|item)\w+\}", "{id}", operation.path)
        whole, short = f"{path}`", f"...{path.removeprefix('/v1/conversations/{id}')}`"
        assert whole in said or short in said, path
