"""Kernels: neurons, convolutions and pooling in C, Triton and torch; nothing here knows a network."""
