"""``sluice plan break-even | fit``: what a machine of one's own would cost beside an API, and what fits on it."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.model.footprint import Device
    from gateway.planning.load import Load, Pace
    from gateway.planning.machines import Machine
    from schemas.config import Settings

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DAY = 86_400 * 1_000_000


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "plan",
        help="compare a machine of your own with APIs, and see what fits on it",
        description="How the figures are derived, and what they leave out, is in docs/planning.md.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_break_even(actions)
    _add_fit(actions)


def _add_break_even(actions: Commands) -> None:
    parser = actions.add_parser(
        "break-even",
        help="from which load on a machine of your own costs less than an API",
        description="Takes the load from the ledger, or from options, and compares what it would cost a month.",
    )
    parser.add_argument("--days", type=_positive, default=30.0, help="of the ledger to look at (default: 30)")
    parser.add_argument("--tenant", help="only this tenant's load")
    parser.add_argument(
        "--requests", type=_whole, metavar="N", help="an hour; instead of the ledger, with the next two"
    )
    parser.add_argument("--prompt-tokens", type=_whole, metavar="N", help="an hour")
    parser.add_argument("--completion-tokens", type=_whole, metavar="N", help="an hour")
    parser.add_argument(
        "--peak",
        type=_positive,
        metavar="TIMES",
        help="the busiest hour, as a multiple of the mean (default: as found, or 3)",
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="PROVIDER/MODEL",
        help="of the settings, or as genai-prices calls it; may be repeated (default: the settings' managed models)",
    )
    parser.add_argument(
        "--cached-share",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="of prompt tokens that the API would read from its cache, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--usd-per-hour", type=_money, metavar="USD", help="of the machine (default: [[prices]] of local)"
    )
    parser.add_argument(
        "--tokens-per-s",
        type=_positive,
        metavar="N",
        help="that the machine generates with such requests (default: [[prices]], or what the ledger shows)",
    )
    parser.add_argument(
        "--utilisation",
        type=_share,
        default=0.7,
        metavar="SHARE",
        help="of that, planned for in the busiest hour (default: 0.7)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--config", metavar="FILE", help="settings, as TOML (default: what $SLUICE_CONFIG names)")
    parser.set_defaults(run=run_break_even)


def _add_fit(actions: Commands) -> None:
    parser = actions.add_parser(
        "fit",
        help="what of a model fits on a GPU, and how fast it can be at best",
        description="Weights and cache, the largest batch for each context, and the bound on tokens a second that "
        "reading them sets. Reads headers only.",
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a built-in name, a GGUF file, or a folder with a config.json"
    )
    parser.add_argument(
        "--shape",
        metavar="SIZES",
        help="instead: layers=32,hidden=4096,ffn=14336,heads=32,kv_heads=8,head_dim=128,vocab_size=128256",
    )
    parser.add_argument("--weights", metavar="FORMAT", help="bf16, int8, int4-g128, Q4_K ... (default: as stored)")
    parser.add_argument("--device", choices=("cpu", "cuda", "reference"), default="cuda", help="default: %(default)s")
    parser.add_argument("--kv", choices=("bf16", "int8", "fp8", "fp32"), help="the cache (default: as served)")
    parser.add_argument("--gpu", metavar="NAME", help="a known one: l4, a100-80gb, h100-sxm, h200-sxm ...")
    parser.add_argument(
        "--memory-gib", type=_positive, metavar="GIB", help="any other machine's, or a GPU's own figure"
    )
    parser.add_argument("--bandwidth-gb-s", type=_positive, metavar="GB", help="at which its memory is read")
    parser.add_argument(
        "--reserve-gib", type=_positive, default=2.0, metavar="GIB", help="kept aside for all else (default: 2)"
    )
    parser.add_argument("--context", type=_whole, action="append", default=[], metavar="N", help="may be repeated")
    parser.add_argument("--block-size", type=_whole, default=16, help="tokens a block (default: 16)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(run=run_fit)


def run_break_even(options: argparse.Namespace) -> int:
    return asyncio.run(_break_even(options))


async def _break_even(options: argparse.Namespace) -> int:
    from fractions import Fraction

    import msgspec

    from gateway.planning import card
    from gateway.planning.apis import api_named, configured_apis
    from gateway.planning.comparing import compare
    from gateway.planning.problem import PlanProblem

    load, pace, settings = await _load(options)
    apis = [api_named(name, settings) for name in options.against] or list(configured_apis(settings))
    if not apis:
        raise PlanProblem("there is nobody to compare with: name an API with --against, as in openai/gpt-5-mini")
    own = _own(options, settings, pace)
    found = compare(load, own, apis, Fraction(options.cached_share))
    if options.json:
        whole = {"load": load, "pace": pace, **msgspec.to_builtins(found)}
        print(msgspec.json.encode(whole).decode())
    else:
        print(card.break_even(load, own, found, pace))
    return 0


async def _load(options: argparse.Namespace) -> tuple[Load, Pace | None, Settings]:
    import os

    from gateway import config
    from gateway.cli.database import opened
    from gateway.planning.load import Load, ledger_load, measured_pace
    from gateway.planning.problem import PlanProblem

    stated = (options.requests, options.prompt_tokens, options.completion_tokens)
    if None not in stated:
        peak = round(options.completion_tokens * (options.peak or 3.0))
        return Load(1.0, stated[0], stated[1], 0, stated[2], peak), None, config.load(options.config, os.environ)
    if stated != (None, None, None):
        raise PlanProblem("--requests, --prompt-tokens and --completion-tokens go together")
    until = int(time.time() * 1e6)
    since = until - int(options.days * DAY)
    async with opened(options.config) as (database, settings):
        load = await ledger_load(database, since, until, options.tenant)
        pace = await measured_pace(database, since, until)
    if options.peak is not None:
        load = load.with_peak(options.peak)
    return load, pace, settings


def _own(options: argparse.Namespace, settings: Settings, pace: Pace | None) -> Any:
    from fractions import Fraction

    from gateway.planning.comparing import Own
    from gateway.planning.problem import PlanProblem
    from gateway.policy.facts import LOCAL_ENDPOINT
    from gateway.policy.prices import PriceBook

    told = PriceBook(settings.prices).hourly(LOCAL_ENDPOINT, settings.models[0].name)
    dollars = options.usd_per_hour or (told.usd_per_hour if told else None)
    if dollars is None:
        raise PlanProblem("what the machine costs is not known: give --usd-per-hour, or a price of `local` by the hour")
    rate = options.tokens_per_s or (told.tokens_per_s if told else None) or (pace.tokens_per_s if pace else None)
    if rate is None:
        raise PlanProblem("how fast the machine is is not known: give --tokens-per-s; the ledger has no answers of it")
    return Own(Fraction(dollars), rate, options.utilisation)


def run_fit(options: argparse.Namespace) -> int:
    import msgspec

    from engine.model.footprint import FORMATS
    from gateway.planning import card
    from gateway.planning.machines import GIB
    from gateway.planning.problem import PlanProblem
    from gateway.planning.sizing import fit, shaped

    if (options.model is None) == (options.shape is None):
        raise PlanProblem("give a MODEL, or its sizes with --shape")
    if options.weights is not None and options.weights not in FORMATS:
        raise PlanProblem(f"there are no weights of format '{options.weights}'; there are {', '.join(FORMATS)}")
    if options.model is None:
        config, stored = shaped(options.shape), None
    else:
        from engine.model.stored import stored_formats

        files = _opened(options.model)
        config, stored = files.config, stored_formats(files)
    device: Device = options.device
    format = options.weights or ("bf16" if stored is None else None)
    found = fit(
        config,
        stored if format is None and stored is not None else lambda _: str(format),
        _machine(options),
        device=device,
        kv=options.kv or ("fp32" if device == "reference" else "bf16"),
        block_size=max(1, options.block_size),
        reserve=int(options.reserve_gib * GIB),
        contexts=[max(1, context) for context in options.context],
    )
    print(msgspec.json.encode(found).decode() if options.json else card.fit(found))
    return 0


def _opened(model: str) -> Any:
    from pathlib import Path

    from engine.model.files import open_model
    from engine.model.store import BUILT_IN, resolve
    from gateway.planning.problem import PlanProblem

    if model in BUILT_IN:
        return open_model(resolve(model))
    path = Path(model).expanduser()
    if not path.exists():
        raise PlanProblem(f"{model}: there is no such file or folder; of a model of the hub, its config.json is enough")
    return open_model(path.parent if path.name == "config.json" else path)


def _machine(options: argparse.Namespace) -> Machine:
    from gateway.planning.machines import GB, GIB, Machine, known_gpus
    from gateway.planning.problem import PlanProblem

    known = Machine("this machine", 0, 0.0)
    if options.gpu is not None:
        if options.gpu not in known_gpus():
            raise PlanProblem(
                f"'{options.gpu}' is not known; known are {', '.join(known_gpus())}. Others: --memory-gib"
            )
        known = known_gpus()[options.gpu]
    elif options.memory_gib is None:
        raise PlanProblem("give a --gpu, or a machine's --memory-gib and --bandwidth-gb-s")
    memory = known.memory if options.memory_gib is None else int(options.memory_gib * GIB)
    bandwidth = known.bandwidth if options.bandwidth_gb_s is None else options.bandwidth_gb_s * GB
    return Machine(known.name, memory, bandwidth)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e15:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return number


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of tokens or requests")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _money(text: str) -> str:
    import re

    if not re.fullmatch(r"[0-9]{1,9}([.][0-9]{1,9})?", text):
        raise argparse.ArgumentTypeError(f"{text} is no amount of dollars, such as 2.50")
    return text
