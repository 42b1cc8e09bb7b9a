#!/usr/bin/env bash
# What a GPU does with this program, in a given time and one folder; see gpu_report.py --help.
#   bash scripts/gpu_report.sh --minutes=10 --output=report
#   bash scripts/gpu_report.sh --minutes=10 --output=report2 --stages=train --init='report/parameters_*.npz'
# Needs a Python with JAX >= 0.11, flax and optax ($PYTHON; else .venv's, else python3), no network and
# no pip. Packages that it lacks may lie as wheels in the folder $WHEELS (./wheels).
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [[ -z $python ]]; then
  python=python3
  [[ ! -x $repository/.venv/bin/python ]] || python=$repository/.venv/bin/python
fi
arguments=()
for argument in "$@"; do # the shell does not expand --init=report/parameters_*.npz
  if [[ $argument == --init=* ]]; then
    for file in ${argument#--init=}; do arguments+=("--init=$file"); done
  else
    arguments+=("$argument")
  fi
done
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
for wheel in "${WHEELS:-wheels}"/*.whl; do
  [[ ! -f $wheel ]] || "$python" -m zipfile -e "$wheel" "$site"
done
export PYTHONPATH=$repository:$site${PYTHONPATH:+:$PYTHONPATH}
"$python" "$repository/scripts/gpu_report.py" ${arguments[@]+"${arguments[@]}"} &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
while true; do
  status=0
  wait "$child" || status=$? # a signal ends the waiting, too
  kill -0 "$child" 2>/dev/null || break
done
exit "$status"
