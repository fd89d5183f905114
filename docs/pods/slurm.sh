#!/bin/bash
# One program over all GPUs of several nodes: sbatch docs/pods/slurm.sh
#
# Slurm tells JAX who is who; one process for each GPU. Before the time is up the run saves itself, and the job queues
# up again; so it does when it is preempted. RUNS must be a folder that all nodes see.
#SBATCH --job-name=ant
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

PYTHON=${PYTHON:-$HOME/jaxrl/.venv/bin/python}
EXPERIMENT=${EXPERIMENT:-$HOME/jaxrl/experiments/ant.py}
RUNS=${RUNS:-$HOME/runs}
NUM_ENVS=${NUM_ENVS:-65536} # 4,096 for each of 16 GPUs

export JAX_COMPILATION_CACHE_DIR=$RUNS/cache

# The signal goes to the tasks, not to this shell.
srun --kill-on-bad-exit=1 "$PYTHON" -m jaxrl.train \
    --config="$EXPERIMENT" --workdir="$RUNS/$SLURM_JOB_NAME" --config.ppo.num_envs="$NUM_ENVS"
status=$?

# 128 + 15: it was told to stop, has saved, and goes on where it stopped.
if [ "$status" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
