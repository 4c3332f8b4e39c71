#!/usr/bin/env bash
# Test with several processes on this machine, one per GPU, or CPU processes where there is no GPU:
#   tools/dist_test.sh CONFIG CHECKPOINT NUM_PROCESSES [arguments of tools/test.py]
# Several machines: the same command on each, with NNODES, NODE_RANK and MASTER_ADDR set.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT NUM_PROCESSES [arguments of tools/test.py]" >&2
    exit 2
fi
folder="$(cd "$(dirname "$0")" && pwd)"
export PYTHONPATH="$(dirname "$folder")${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$3" \
    "$folder/test.py" "$1" "$2" --launcher pytorch "${@:4}"
