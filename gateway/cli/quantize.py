"""``sluice quantize``: a model with fewer bits a weight, as a checkpoint, and what that costs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config import EMBEDDED_MODEL

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

METHODS = ("rtn", "gptq", "awq", "smoothquant")
LAYOUTS = ("compressed-tensors", "gptq", "awq")
ACT_ORDERS = ("static", "group", "none")


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "quantize",
        help="quantize a model and say what it costs",
        description="Rounds the linear layers of a model to a grid of few bits, writes a folder that other engines "
        "read too, and prints perplexity, size and speed before and after. smoothquant makes 8-bit weights for 8-bit "
        "activations, the others weights alone.",
    )
    parser.add_argument("model", metavar="MODEL", help=f"as for `sluice serve`: {EMBEDDED_MODEL}, a path, or a hub id")
    parser.add_argument("--method", choices=METHODS, default="gptq", help="default: %(default)s")
    parser.add_argument("--bits", type=int, choices=range(2, 9), help="default: 4, or 8 for smoothquant")
    parser.add_argument(
        "--group-size", type=int, metavar="N", help="inputs that share a scale, -1 for a whole row (default: 64)"
    )
    parser.add_argument("--asymmetric", action="store_true", help="grids with a zero of their own")
    parser.add_argument(
        "--act-order", choices=ACT_ORDERS, default="static",
        help="gptq: columns with large inputs first, in the groups where they are (static) or in groups of that order "
        "(group); or all from left to right (none; default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="of the file (default: %(default)s)")
    parser.add_argument(
        "--alpha", type=float, default=0.5, help="smoothquant: how much moves to the weights (default: %(default)s)"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="calibration text (default: Python's own manual)")
    parser.add_argument("--windows", type=int, default=16, help="windows to calibrate on (default: %(default)s)")
    parser.add_argument("--window", type=int, default=512, help="tokens a window (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of the speed measurement (default: one a core)")
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of a card")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the folder to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from engine.model.store import resolve
    from gateway.config import ConfigError

    fixed = options.method == "smoothquant"
    if fixed and (options.bits not in (None, 8) or options.group_size not in (None, -1) or options.asymmetric):
        raise ConfigError("--method smoothquant has 8 bits, one scale a row, and symmetric grids")
    if options.group_size is not None and options.group_size != -1 and (options.group_size < 32):
        raise ConfigError(f"--group-size {options.group_size}: -1, or 32 at least")
    if not 0 <= options.alpha <= 1:
        raise ConfigError(f"--alpha {options.alpha}: between 0 and 1")
    if options.window < 2 or options.windows < 1:
        raise ConfigError("--window must be 2 tokens at least, and --windows 1")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ConfigError(f"--out {options.out}: exists and is no empty folder")

    from engine.quantization import command

    scheme = (
        command.Scheme(8)
        if fixed
        else command.Scheme(options.bits or 4, options.group_size or 64, not options.asymmetric)
    )
    recipe = command.Recipe(
        options.method, scheme, act_order=options.act_order, alpha=options.alpha, layout=options.layout
    )
    work = command.Work(
        model=resolve(options.model),
        out=options.out,
        text=options.text,
        windows=options.windows,
        window=options.window,
        threads=options.threads,
    )
    report = command.run(work, recipe, sys.stderr)
    print(command.report_json(report) if options.json else command.card(report))
    return 0
