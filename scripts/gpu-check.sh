#!/usr/bin/env bash
# Correctness of every GPU kernel on the device, then the benchmarks of kernels, whole models and constrained batches: ten
# minutes at most. Every part has its own limit, writes what it knows as it goes, and costs the others nothing if it fails.
#   OUT     folder for correctness.xml, kernels.jsonl, engine.jsonl, loop.jsonl   (default: build/gpu-check)
#   PYTHON  an environment with a CUDA build of torch, and triton                 (default: .venv/bin/python)
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-build/gpu-check}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
"$python" -c 'import sys, torch, triton; sys.exit(not torch.cuda.is_available())' || {
    echo "gpu-check: $python sees no CUDA device, or lacks torch or triton" >&2
    exit 1
}
export TRITON_INTERPRET=0
status=0
# An interrupt, and not a kill, so that what was found until then is reported.
timeout -s INT -k 10 180 "$python" -m pytest -q -m "not slow" --junitxml="$out/correctness.xml" \
    tests/kernels/test_triton_*.py tests/engine/test_triton_runner.py || status=$?
timeout -s INT -k 10 160 "$python" -m bench.kernels --seconds 140 --json "$out/kernels.jsonl" || status=$?
timeout -s INT -k 10 120 "$python" -m bench.device_engine --seconds 90 --json "$out/engine.jsonl" || status=$?
timeout -s INT -k 10 110 "$python" -m bench.device_loop --seconds 80 --json "$out/loop.jsonl" || status=$?
echo "targets:"
cat "$out"/*.jsonl | grep '"target"' || true
exit "$status"
