#!/usr/bin/env bash
# Train the paper's network on simulated roads: teacher, SNN, and SNN with distillation, seed after seed, and leave the
# runs and one table under OUT/study. Meant for a GPU; run it again after a stop and it goes on where it was.
# Usage: benchmarks/train_paper.sh OUT [DATA] [extra options of scn study, such as --set "{epochs: 5}" or --jobs 2]
set -euo pipefail
out=${1:?usage: benchmarks/train_paper.sh OUT [DATA] [options of scn study]}
data=${2:-data/roads}
shift $(( $# < 2 ? $# : 2 ))
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scn() { PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" "${PYTHON:-python3}" -m spiking_centernet "$@"; }

mkdir -p "$out"
gpu=(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv)
"${gpu[@]}" 2>/dev/null | tee "$out/gpu.csv" || echo "no GPU here"
[ -d "$data/test" ] || scn simulate "$data" --seed 0 --train 800 --train_duration_s 1 --val 32 --test 40 --duration_s 3
scn study recipes/studies/paper_roads.yaml --data "$data" --out "$out/study" "$@"
# What to bring back: the table, every run's notes, and the best weights; not the checkpoints, which are large.
left_out=(--exclude bring_back.tar.gz --exclude last.safetensors --exclude tensorboard)
packed=$(mktemp)  # outside the folder, which must not change while it is packed
tar -C "$out" -czf "$packed" "${left_out[@]}" .
mv "$packed" "$out/bring_back.tar.gz"
echo "bring back $out/bring_back.tar.gz"
