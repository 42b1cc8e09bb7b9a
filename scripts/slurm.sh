#!/usr/bin/env bash
# Trains one network on all GPUs of several nodes: sbatch scripts/slurm.sh configs/double34.py
#
# One task per GPU. JAX learns from SLURM how many tasks there are, which this is and where the first
# one listens, and gives each task the GPU of its local number.
# The batch, over all GPUs, must be a multiple of their number. The run's folder must lie on a file
# system that all nodes share.
#SBATCH --job-name=sevi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM for the tasks two minutes before the end: the run saves and ends with status 75, at which
# the job is put back into the queue and goes on.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

config=${1:?"usage: sbatch scripts/slurm.sh CONFIG [FLAGS]"}
# srun takes the number of cores from the job no more since Slurm 22.05.
# With one task that fails the rest would wait for it, for up to 100 seconds.
status=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=1 \
  "${VENV:-.venv}/bin/python" -m sevi_jax.train --distributed --config="$config" "${@:2}" || status=$?
if [[ $status == 75 ]]; then
  echo "slurm.sh: stopped and saved; job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
