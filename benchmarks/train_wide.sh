#!/usr/bin/env bash
# Train "small-wide" on with roads, the wide world and the close one, and leave the weights under OUT. Meant for a GPU with ten
# minutes; run it again after a stop and it goes on where it was. Test splits are not simulated: score where they are.
# Usage: benchmarks/train_wide.sh OUT [DATA] [extra options of scn train, such as --epochs 2 or --batch_size 8]
set -euo pipefail
out=${1:?usage: benchmarks/train_wide.sh OUT [DATA] [options of scn train]}
data=${2:-data}
shift $(( $# < 2 ? $# : 2 ))
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
scn() { PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" "$python" -m spiking_centernet "$@"; }
simulated() { grep -qs '"complete": true' "$data/$1/simulation.json" || scn simulate "$data/$1" --seed 0 --test 0 "${@:2}"; }

mkdir -p "$out"
gpu=(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv)
"${gpu[@]}" 2>/dev/null | tee "$out/gpu.csv" || echo "no GPU here"
date
simulated roads --train 500 --train_duration_s 1 --val 32 --duration_s 3
simulated wide --world wide --train 1200 --train_duration_s 0.6 --val 32 --duration_s 2
simulated close --world close --train 400 --train_duration_s 0.6 --val 24 --duration_s 2
"$python" benchmarks/mixed_data.py "$data/mixed" "$data/roads" "$data/wide" "$data/close"
date
scn train recipes/small_wide_gpu.yaml --data "$data/mixed" --out "$out/run" --resume "$@"
date
# What to bring back: the best weights and the log; not the checkpoints, which are large.
tar -C "$out" --exclude last.safetensors --exclude tensorboard -czf "$out.tar.gz" .
echo "bring back $out.tar.gz"
