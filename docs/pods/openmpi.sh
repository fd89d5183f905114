#!/bin/bash
# One program over the hosts of Open MPI, one process a host with all of its GPUs:
#
#   HOSTS=node1,node2 bash docs/pods/openmpi.sh
#
# Open MPI 5 does not tell JAX where its head is, so it is said here; 4 does, and would give a process one GPU alone, so
# what it tells is taken away.
set -euo pipefail

HOSTS=${HOSTS:?names of the hosts with commas between them}
PYTHON=${PYTHON:-$HOME/jaxrl/.venv/bin/python}
EXPERIMENT=${EXPERIMENT:-$HOME/jaxrl/experiments/ant.py}
RUNS=${RUNS:-$HOME/runs} # a folder that all hosts see
export PYTHON EXPERIMENT RUNS COORDINATOR="${HOSTS%%,*}:55000"

# shellcheck disable=SC2016 # each process fills in its own number
exec mpirun --host "$HOSTS" --map-by ppr:1:node --bind-to none \
    -x PYTHON -x EXPERIMENT -x RUNS -x COORDINATOR \
    env -u OMPI_MCA_orte_hnp_uri bash -c 'exec "$PYTHON" -m jaxrl.train \
        --config="$EXPERIMENT" --workdir="$RUNS/ant" --coordinator="$COORDINATOR" \
        --num_processes="$OMPI_COMM_WORLD_SIZE" --process_id="$OMPI_COMM_WORLD_RANK"'
