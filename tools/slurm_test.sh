#!/usr/bin/env bash
# Test on a Slurm cluster:
#   GPUS=8 GPUS_PER_NODE=4 tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]" >&2
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
    "${PYTHON:-python}" -u "$folder/test.py" "$3" "$4" --launcher slurm "${@:5}"
