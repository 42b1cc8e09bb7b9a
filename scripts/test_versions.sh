#!/usr/bin/env bash
# Runs all tests on the oldest and on the newest versions that are supported, in environments of their
# own: build/versions/oldest (Python 3.11 and the JAX that constraints.txt names for it) and
# build/versions/newest (the newest Python found and the newest JAX of constraints.txt).
#   bash scripts/test_versions.sh
#   bash scripts/test_versions.sh --fresh            # makes both anew
#   bash scripts/test_versions.sh tests/synthesis    # arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == --fresh ]]; then
  shift
  rm -rf build/versions
fi

oldest=$(bash scripts/find_python.sh 3.11) || {
  echo "test_versions.sh: no Python 3.11 with the venv module found" >&2
  exit 1
}
newest=$(bash scripts/find_python.sh)
mkdir -p build/versions
status=0
for name in oldest newest; do
  export VENV=build/versions/$name PYTHON=${!name}
  bash scripts/setup.sh
  "$VENV/bin/python" -c 'import jax, numpy, platform
print("Python", platform.python_version(), "JAX", jax.__version__, "NumPy", numpy.__version__)'
  bash scripts/test.sh "$@" || status=1
done
exit "$status"
