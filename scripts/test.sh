#!/usr/bin/env bash
# Runs the tests, one worker per core; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
workers=$((cores < 8 ? cores : 8))
# XLA sizes its thread pool by NPROC; without it, each worker starts one thread per core.
export NPROC=$((cores / workers))
"${VENV:-.venv}/bin/python" -m pytest -n "$workers" "$@"
