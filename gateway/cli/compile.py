"""``sluice compile``: what a constraint compiles to, what it promises, and how long that takes, without a server."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config import EMBEDDED_MODEL

if TYPE_CHECKING:
    from fsm import Program, TokenTable
    from grammar import Choice, JsonSchema, Lark, Regex

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

KINDS = ("json-schema", "regex", "choice", "lark")


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "compile",
        help="compile a constraint and say what it promises",
        description="Compiles a constraint against a model's vocabulary and prints its contract (exact, or a sound "
        "subset with the reasons), its limits and its times. A constraint that cannot be enforced is refused with the "
        "place that is at fault, and the exit status is 1.",
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a JSON schema, a regex, one choice a line, or a Lark grammar; - for standard input",
    )
    parser.add_argument(
        "--kind", choices=KINDS, help="what FILE holds (default: lark for a .lark file, else json-schema)"
    )
    parser.add_argument(
        "--tokenizer",
        default=EMBEDDED_MODEL,
        metavar="MODEL",
        help="the model whose vocabulary is used, named as for `sluice serve` (default: %(default)s)",
    )
    parser.add_argument("--fuel", type=int, help="units of work that the compiler may spend (default: the core's own)")
    parser.add_argument("--property-order", choices=("schema", "any"), default="schema")
    parser.add_argument("--whitespace", choices=("compact", "bounded", "flexible"), default="bounded")
    parser.add_argument("--number", choices=("canonical", "free"), default="canonical")
    parser.add_argument("--formats", choices=("assert", "annotate"), default="assert")
    parser.add_argument(
        "--semantics",
        choices=("dynamic_complete", "contextual"),
        default="dynamic_complete",
        help="how a Lark grammar is read (default: %(default)s)",
    )
    parser.add_argument(
        "--start", default="start", help="the rule that a Lark grammar begins with (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of a card")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import msgspec

    from fsm import compile_constraint

    text = sys.stdin.read() if options.file == "-" else _read(Path(options.file))
    asked = _constraint(text, options)
    table = token_table(options.tokenizer)
    compile_constraint(asked, table, fuel=options.fuel).matcher().mask()  # once untimed, which loads the kernels
    started = time.perf_counter()
    program = compile_constraint(asked, table, fuel=options.fuel)
    compiled = time.perf_counter()
    matcher = program.matcher()
    matcher.mask()
    masked = time.perf_counter()
    report = _report(program, compiled - started, masked - compiled)
    print(msgspec.json.encode(report).decode() if options.json else _card(options.file, report))
    return 0


def token_table(model: str) -> TokenTable:
    """The vocabulary of a model that is a built-in name, a path or a hub id."""
    from engine.model.gguf import GgufFile
    from engine.model.store import resolve
    from engine.model.tokenizer import Tokenizer
    from fsm import TokenTable

    path = resolve(model)
    tokenizer = Tokenizer.from_folder(str(path)) if path.is_dir() else Tokenizer.from_gguf(GgufFile(path))
    controls = dict(zip(tokenizer.special_names, tokenizer.special_ids, strict=True))
    silent = [i for i in tokenizer.special_ids if tokenizer.vocabulary[i] is None]
    return TokenTable.from_bytes(tokenizer.vocabulary, tokenizer.eos_ids, silent, controls)


def _read(path: Path) -> str:
    from gateway.config import ConfigError

    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None


def _constraint(text: str, options: argparse.Namespace) -> JsonSchema | Regex | Choice | Lark:
    from grammar import Choice, JsonSchema, Lark, Regex
    from grammar.json_schema.decoding import load

    kind = options.kind or ("lark" if options.file.endswith(".lark") else "json-schema")
    if kind == "lark":
        return Lark(text, options.start, options.semantics)
    if kind == "regex":
        return Regex(text.removesuffix("\n"))
    if kind == "choice":
        return Choice(text.removesuffix("\n").split("\n"))
    return JsonSchema(
        load(text),
        property_order=options.property_order,
        whitespace=options.whitespace,
        number=options.number,
        formats=options.formats,
    )


def _report(program: Program, compile_seconds: float, mask_seconds: float) -> dict[str, Any]:
    return {
        "contract": program.contract.value,
        "reasons": program.reasons,
        "limits": program.limits,
        "compile_ms": round(compile_seconds * 1e3, 3),
        "first_mask_us": round(mask_seconds * 1e6, 1),
        "states": program.machine.tables.n_states,
        "starts_with": program.matcher().forced().decode("utf-8", "replace"),
    }


def _card(name: str, report: dict[str, Any]) -> str:
    lines = [f"{name}: {report['contract'].replace('_', ' ')}"]
    lines += [f"  because      {reason}" for reason in report["reasons"]]
    lines += [f"  up to        {name} = {value}" for name, value in report["limits"].items()]
    lines.append(f"  compiled in  {report['compile_ms']:.2f} ms, {report['states']} states")
    lines.append(f"  first mask   {report['first_mask_us']:.0f} us")
    if report["starts_with"]:
        lines.append(f"  starts with  {report['starts_with']}")
    return "\n".join(lines)
