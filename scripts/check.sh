#!/usr/bin/env bash
# Lint, format and types; changes nothing, and runs all three whatever the first says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
python=${VENV:-.venv}/bin/python
status=0
"$python" -m ruff check --quiet . || status=1
"$python" -m ruff format --check . || status=1
"$python" -m basedpyright --pythonpath "$python" || status=1
exit "$status"
