#!/usr/bin/env bash
# Makes .venv with everything pinned in constraints.txt. Does nothing when that is done already.
#   PYTHON  interpreter to use            (default: the first of python3, 3.13, 3.12, 3.11 that is in range)
#   TORCH   build of torch: cpu, pypi, or a name of PyTorch's package index such as cu130   (default: cpu)
#   EXTRAS  extras of pyproject.toml      (default: test)
set -euo pipefail
cd "$(dirname "$0")/.."

torch_build=${TORCH:-cpu}
extras=${EXTRAS:-test}
venv=.venv

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

in_range() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if in_range "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    [[ -z ${PYTHON:-} ]] || fail "$PYTHON is not a working Python 3.11, 3.12 or 3.13."
    fail "Python 3.11, 3.12 or 3.13 was not found." "Install one, or name one: make setup PYTHON=/path/to/python3.12"
}

torch_pin() { sed -n 's/^torch==/torch==/p' constraints.txt; }

# The CPU build of torch is a fifth of the default one on Linux. It comes from wherever pip is set up to look, else from
# PyTorch's own index, else the default build must do.
install_torch() {
    local index=https://download.pytorch.org/whl/$torch_build pin
    pin=$(torch_pin)
    if [[ $torch_build == pypi || $(uname -s) == Darwin ]]; then
        pip_install "$pin"
    elif ! pip_install "$pin+$torch_build" 2>/dev/null; then
        echo "setup: looking for torch's $torch_build build at $index"
        if ! pip_install "$pin+$torch_build" --extra-index-url "$index" --retries 1 --timeout 15; then
            [[ $torch_build == cpu ]] || fail "torch's $torch_build build could not be installed from $index"
            echo "setup: no CPU build to be had; taking the default build (on Linux x86-64 it brings CUDA: some gigabytes)"
            pip_install "$pin"
        fi
    fi
}

pip_install() { "$venv/bin/python" -m pip install --quiet --constraint constraints.txt "$@"; }

digest() { cat pyproject.toml constraints.txt "$0" | cksum; }

wanted="$(digest) torch=$torch_build extras=$extras"
if [[ -f $venv/.complete && $(<"$venv/.complete") == "$wanted" ]]; then
    exit 0
fi

if ! { [[ -x $venv/bin/python ]] && in_range "$venv/bin/python"; }; then
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python cannot make virtual environments: its modules venv and ensurepip are missing." \
            "On Debian and Ubuntu: apt install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    echo "setup: making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
rm -f "$venv/.complete"
echo "setup: installing (some minutes the first time)"
install_torch
pip_install --editable ".[$extras]"
echo "$wanted" >"$venv/.complete"
echo "setup: done"
