#!/usr/bin/env bash
# Compiles the numba kernels into the cache beside their sources, once; and again when any of them changes, because numba
# looks at one file at a time and would keep a kernel whose callee in another file is no longer the same.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.kernels
now=$(cat fsm/*.py kernels/*.py kernels/cpu/*.py grammar/tables.py | sha256sum)
[ "$now" = "$(cat "$stamp" 2>/dev/null || true)" ] && exit 0
find fsm kernels -name '*.nb[ci]' -delete
echo "compiling the kernels (once, some minutes)" >&2
.venv/bin/python -c "import fsm, kernels.cpu.sampling, engine.cpu_runner"
echo "$now" >"$stamp"
