#!/usr/bin/env bash
# Train the paper's network on simulated roads, score it, and leave everything under OUT. Meant for a GPU; run it again
# after a stop and it goes on. Usage: benchmarks/train_paper.sh OUT [DATA] [extra options of scn train]
set -euo pipefail
out=${1:?usage: benchmarks/train_paper.sh OUT [DATA] [options of scn train]}
data=${2:-data/roads}
shift $(( $# < 2 ? $# : 2 ))
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scn() { PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" python3 -m spiking_centernet "$@"; }

mkdir -p "$out"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv 2>/dev/null | tee "$out/gpu.csv" || echo "no GPU here"
scn simulate "$data" --seed 0 --train 800 --train_duration_s 1 --val 32 --test 40 --duration_s 3
began=$SECONDS
scn train recipes/paper_roads.yaml --data "$data" --out "$out/run" --resume --checkpoint_every 100 "$@"
echo "trained in $(( SECONDS - began )) s" | tee "$out/train_seconds.txt"
scn val "$out/run" --data "$data" --split test --protocol all --save "$out/test"
