#!/bin/bash
# Sixteen seeds that need nothing of each other, a GPU for each: sbatch docs/pods/slurm_array.sh
#
# Several seeds on one GPU are one program: --config.seeds=8 in the place of one seed.
#SBATCH --job-name=ant
#SBATCH --array=0-15
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
set -uo pipefail

PYTHON=${PYTHON:-$HOME/jaxrl/.venv/bin/python}
EXPERIMENT=${EXPERIMENT:-$HOME/jaxrl/experiments/ant.py}
RUNS=${RUNS:-$HOME/runs}
SEED=$SLURM_ARRAY_TASK_ID

export JAX_COMPILATION_CACHE_DIR=$RUNS/cache

srun "$PYTHON" -m jaxrl.train \
    --config="$EXPERIMENT" --workdir="$RUNS/${SLURM_JOB_NAME}_seed$SEED" --config.seed="$SEED"
status=$?

# 128 + 15: it was told to stop, has saved, and goes on where it stopped.
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
