#!/usr/bin/env bash
# Makes the environment that benchmarks measure peers in. Their pins would contradict ours, so they live apart.
#   usage: scripts/bench-setup.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
wanted=$(cksum <scripts/bench-requirements.txt)
if [[ -f $venv/.complete && $(<"$venv/.complete") == "$wanted" ]]; then
    exit 0
fi
[[ -x $venv/bin/python ]] || .venv/bin/python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement scripts/bench-requirements.txt
echo "$wanted" >"$venv/.complete"
