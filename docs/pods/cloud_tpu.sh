#!/bin/bash
# One program over all hosts of a Cloud TPU slice: bash docs/pods/cloud_tpu.sh
#
# Makes the slice if it is not there, waits for it, copies this repository to every host, and starts the same command on
# all; JAX finds the others by itself. The same line after a preemption makes the slice anew and goes on.
set -euo pipefail

NAME=${NAME:-ant}
PROJECT=${PROJECT:?of Google Cloud}
ZONE=${ZONE:-us-west4-a}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
NFS=${NFS:?of Filestore, such as 10.0.0.2:/runs: checkpoints must be where all hosts see them}
NUM_ENVS=${NUM_ENVS:-65536} # 4,096 for each of 16 chips
SPOT=${SPOT---spot}         # SPOT= asks for a slice that is not taken away

where=(--project="$PROJECT" --zone="$ZONE")

state() {
    gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

everywhere() {
    gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$1"
}

case $(state) in
FAILED | SUSPENDED | SUSPENDING)
    gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
    ;;
esac
if [ -z "$(state)" ]; then
    gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id="$NAME" \
        --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" ${SPOT:+"$SPOT"}
fi
until [ "$(state)" = ACTIVE ]; do
    echo "waiting for $ACCELERATOR: $(state)"
    sleep 30
done

git archive --format=tar.gz --output=/tmp/jaxrl.tar.gz HEAD
gcloud compute tpus tpu-vm scp /tmp/jaxrl.tar.gz "$NAME:jaxrl.tar.gz" "${where[@]}" --worker=all
everywhere "sudo apt-get -qq install -y nfs-common && sudo mkdir -p /mnt/runs &&
    { mountpoint -q /mnt/runs || sudo mount -t nfs $NFS /mnt/runs; } &&
    mkdir -p jaxrl && tar xzf jaxrl.tar.gz -C jaxrl && python3 -m venv jaxrl/.venv &&
    jaxrl/.venv/bin/pip install -q -e 'jaxrl[tpu]'"
everywhere "cd jaxrl && exec .venv/bin/python -m jaxrl.train \
    --config=experiments/ant.py --workdir=/mnt/runs/$NAME --config.ppo.num_envs=$NUM_ENVS"
