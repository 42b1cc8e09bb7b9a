#!/usr/bin/env bash
# Prints a Python that this program runs on: the newest found, or one of the versions given.
#   bash scripts/find_python.sh
#   bash scripts/find_python.sh 3.11
# Looks on the PATH and in pyenv's folder. A Python may be there and not run (a pyenv shim without its
# version), or lack venv (Debian). The status is 1 where there is none.
set -euo pipefail

qualifies() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

versions=("$@")
[[ $# -gt 0 ]] || versions=(3.14 3.13 3.12 3.11)
for version in "${versions[@]}"; do
  for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"python$version"; do
    if qualifies "$candidate"; then
      command -v "$candidate"
      exit 0
    fi
  done
done
# a newer one than those above
if [[ $# -eq 0 ]] && qualifies python3; then
  command -v python3
  exit 0
fi
exit 1
