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
# SIGTERM two minutes before the end: the run saves, and goes on when this is submitted again.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

config=${1:?"usage: sbatch scripts/slurm.sh CONFIG [FLAGS]"}
# With one task that fails the rest would wait for it, for up to 100 seconds.
srun --kill-on-bad-exit=1 .venv/bin/python -m sevi_jax.train --distributed --config="$config" "${@:2}"
