#!/usr/bin/env bash
# Correctness of every GPU kernel on the device, then the benchmarks of kernels and whole models; about ten minutes.
#   OUT     folder for correctness.xml, kernels.json, engine.json   (default: build/gpu-check)
#   PYTHON  an environment with a CUDA build of torch, and triton   (default: .venv/bin/python)
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-build/gpu-check}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "gpu-check: $python sees no CUDA device" >&2
    exit 1
}
export TRITON_INTERPRET=0
status=0
timeout 240 "$python" -m pytest -q -m "not slow" --junitxml="$out/correctness.xml" \
    tests/kernels/test_triton_*.py tests/engine/test_triton_runner.py || status=$?
timeout 210 "$python" -m bench.kernels --json "$out/kernels.json" || status=$?
timeout 150 "$python" -m bench.device_engine --json "$out/engine.json" || status=$?
exit "$status"
