#!/usr/bin/env bash
# What twelve minutes of a GPU are worth most for, in this order: "small" trained on with whole numbers of spikes and for
# boxes that fit, the paper's network with and without distillation, the speed of training beside its peers. Leaves
# everything under OUT; run it again and it goes on.
# Usage: benchmarks/gpu_session.sh OUT [DATA] [seconds for "small", for the paper's network, for speed: 300 240 120]
set -uo pipefail
out=${1:?usage: benchmarks/gpu_session.sh OUT [DATA] [seconds for small, paper, speed]}
data=${2:-data/roads}
small_s=${3:-300} paper_s=${4:-240} speed_s=${5:-120}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=${PYTHON:-python3}
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}"
scn=("$python" -m spiking_centernet)
# A part that fails or is out of time leaves what it has; the next one begins.
part() { date; timeout --signal=INT --kill-after=20 "$1" "${@:2}" || echo "stopped (status $?): ${*:2}"; }

mkdir -p "$out"
gpu=(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv)
"${gpu[@]}" 2>/dev/null | tee "$out/gpu.csv" || echo "no GPU here"
[ -d "$data/test" ] || "${scn[@]}" simulate "$data" --seed 0 --train 800 --train_duration_s 1 --val 32 --test 40 --duration_s 3
part "$small_s" "${scn[@]}" train recipes/small_integer_gpu.yaml --data "$data" --out "$out/small_integer" --resume
part "$paper_s" benchmarks/train_paper.sh "$out/paper" "$data"
part "$speed_s" "$python" benchmarks/gpu.py --batches 2 4 8 16 32
[ results/gpu_speed.json -nt "$out/gpu.csv" ] && cp -f results/gpu_speed.json "$out/"
date
# What to bring back: weights, logs and results; not the checkpoints, which are large.
left_out=(--exclude bring_back.tar.gz --exclude last.safetensors --exclude tensorboard)
packed=$(mktemp)  # outside the folder, which must not change while it is packed
tar -C "$out" -czf "$packed" "${left_out[@]}" .
mv "$packed" "$out/bring_back.tar.gz"
echo "bring back $out/bring_back.tar.gz"
