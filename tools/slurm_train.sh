#!/usr/bin/env bash
# Train on a Slurm cluster:
#   GPUS=8 GPUS_PER_NODE=4 tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2
    exit 2
fi
folder="$(cd "$(dirname "$0")" && pwd)"
export PYTHONPATH="$(dirname "$folder")${PYTHONPATH:+:$PYTHONPATH}"
gpus="${GPUS:-4}"
per_node="${GPUS_PER_NODE:-4}"
# SRUN_ARGS holds further arguments of srun, which are meant to be split into words.
# shellcheck disable=SC2086
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$folder/train.py" "$3" --launcher slurm "${@:4}"
