"""A trained network where it has to run: compiled for a CPU, or exported for other runtimes and simulators."""
