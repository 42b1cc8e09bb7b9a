#!/usr/bin/env bash
# Lint, format and types; changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
python=${VENV:-.venv}/bin/python
"$python" -m ruff check --quiet .
"$python" -m ruff format --check --quiet . ||
  { echo "check.sh: run '$python -m ruff format .'" >&2; exit 1; }
"$python" -m basedpyright --pythonpath "$python"
