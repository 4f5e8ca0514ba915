"""What is packaged: every room is in the wheel, what is imported is declared, and what is declared is pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sluice

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = sorted(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
EXTRAS = PROJECT["project"]["optional-dependencies"]
OUTSIDE = {"bench", "examples", "tests"}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in lines if not line.startswith("sluice[")]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def imported_by_rooms() -> Iterator[tuple[str, str]]:
    """(distribution, file) of each third-party import."""
    owners = packages_distributions()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for name in (name.partition(".")[0] for name in names):
                    if name not in ROOMS and name not in sys.stdlib_module_names:
                        yield canonicalize_name(owners.get(name, [name])[0]), str(path.relative_to(ROOT))


def test_the_wheel_holds_every_room() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(ROOMS) == folders - OUTSIDE


def test_imports_are_declared_and_declared_dependencies_are_imported() -> None:
    declared = requirements(PROJECT["project"]["dependencies"])
    optional = requirements([line for name in ("gpu", "hub", "otel", "presidio") for line in EXTRAS[name]])
    imported = dict(imported_by_rooms())
    undeclared = {name: file for name, file in imported.items() if name not in declared and name not in optional}
    assert not undeclared
    assert not set(declared) - set(imported)


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = requirements([line for line in lines if line and not line.startswith("#")])
    direct = requirements([*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS.values() for line in extra)])
    for name, requirement in direct.items():
        (pin,) = pins[name].specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier, f"{requirement} excludes the pinned {pin.version}"


def test_only_the_empty_package_file_stands_in_kernels() -> None:
    """transformers looks for another distribution called kernels, and takes a version in this one for it."""
    assert (ROOT / "kernels" / "__init__.py").read_text() == ""


def test_the_public_face_is_there_and_is_cheap() -> None:
    code = "import sys, sluice; print(sorted({'numba', 'numpy', 'grammar', 'fsm'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"
    for name in sluice.__all__:
        assert getattr(sluice, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = sluice.Nonsense
    assert re.fullmatch(r"\d+\.\d+\.\d+", sluice.__version__)


@pytest.mark.parametrize(
    "module",
    [
        "engine.client",
        "engine.model.chat_template",
        "engine.model.store",
        "engine.model.tokenizer",
        "gateway.app",
        "gateway.cli.main",
        "gateway.server",
        "providers.local",
    ],
)
def test_the_http_side_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_files_that_newcomers_are_told_of_exist() -> None:
    folders = (*ROOMS, *OUTSIDE, "deploy", "docs")
    paths = [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*")]
    paths += [path.name for path in ROOT.iterdir()]
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    named = re.findall(r"`([\w/]+(?:\.(?:py|md|toml)|/))`", pages)
    assert len(named) > 40
    missing = [name for name in named if not any(f"/{path}/".endswith(f"/{name.rstrip('/')}/") for path in paths)]
    assert not set(missing) - {f"{room}/" for room in ROOMS}
