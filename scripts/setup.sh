#!/usr/bin/env bash
# Makes the virtual environment that the other scripts use: .venv, or the folder in $VENV (a relative
# one is taken from the repository's root). $PYTHON names the Python to use; by default it is the newest
# that is found, since the newest JAX runs on none older than 3.12. Does nothing when the environment
# is newer than pyproject.toml and constraints.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}
stamp=$venv/sevi_jax.stamp

fail() {
  echo "setup.sh: $1" >&2
  exit 1
}

# A Python may be there and not run (a pyenv shim without its version), or lack venv (Debian).
qualifies() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [[ -f $stamp && $stamp -nt pyproject.toml && $stamp -nt constraints.txt ]] &&
  qualifies "$venv/bin/python"; then
  exit 0
fi

if ! qualifies "$venv/bin/python"; then
  if [[ -n ${PYTHON:-} ]]; then
    python=$PYTHON
    qualifies "$python" ||
      fail "PYTHON=$PYTHON does not run, is older than 3.11 or lacks the venv module"
  else
    python=$(bash scripts/find_python.sh) ||
      fail "no Python >= 3.11 with the venv module found; set PYTHON to one"
  fi
  clear=()
  [[ ! -f $venv/pyvenv.cfg ]] || clear=(--clear)
  echo "setup.sh: making $venv with $("$python" -V)"
  "$python" -m venv ${clear[@]+"${clear[@]}"} "$venv" >/dev/null || fail "cannot make $venv"
fi

echo "setup.sh: installing sevi_jax and its dependencies into $venv"
log=$venv/setup.log
"$venv/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]" \
  >"$log" 2>&1 ||
  fail "pip failed, see $log: $(grep -m 1 '^ERROR' "$log")"
touch "$stamp"
