"""Files, progress, provenance and executors: what everything else uses and what knows no events."""
