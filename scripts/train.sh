#!/usr/bin/env bash
# The main job on the machine it finds: makes the environment, trains the small network of
# configs/quick.py, draws event files, and judges the network on them. The results are in runs/quick.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
python=${VENV:-.venv}/bin/python
run=runs/quick
"$python" -m sevi_jax.train --config=configs/quick.py --workdir="$run"
mkdir -p "$run/data"
"$python" -m sevi_jax.synthesize --config=configs/quick.py --kind=distributions --number=8 \
  --seed=1 --output="$run/data/train10.h5"
"$python" -m sevi_jax.synthesize --config=configs/quick.py --kind=frames --number=200 \
  --seed=2 --output="$run/data/train0.h5"
"$python" -m sevi_jax.evaluate --workdir="$run" \
  --data="$run/data/train10.h5,$run/data/train0.h5" --output="$run/report"
echo
echo "network and curves: $run (loss.png, held_out_betas.png, held_out_errors.png)"
echo "event files judged: $run/report (report.json, report_betas.png, report_distance.png)"
