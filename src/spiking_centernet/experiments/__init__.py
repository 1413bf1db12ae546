"""What is built on top of everything else and can be left out: demo, ablation studies, benchmarks."""
