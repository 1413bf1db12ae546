"""How good a detector is, and what it costs: scores, robustness, significance, energy."""
