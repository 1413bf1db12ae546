// What the kernels of integrate-and-fire neurons take.
#ifndef PLIF_H
#define PLIF_H

#include "scn.h"

// Rows of scratch that a part of the backward pass takes besides three a step: three of sums, one of membranes, one of their
// gradient.
#define PLIF_FIXED_ROWS 5

// In the order of SURROGATES in ops/plif_cpu.py.
enum { ATAN, SIGMOID, RECTANGLE };

typedef struct {
    float q, threshold, alpha;
    int32_t leaky, decay_input, soft_reset, detach_reset, surrogate;
    int32_t levels;           // most spikes of a step, and those many thresholds; where it is 0, one spike at `threshold`
    const float *thresholds;  // each spike takes `threshold` from the membrane, whichever it reaches: `soft_reset` is set
} PlifNeuron;

// What a neuron receives is (y - mean) * scale + bias, a value a channel; the kernels work with rows, see widened().
typedef struct {
    i64 num_neurons, num_steps, num_channels;
    i64 tile;  // a multiple of the channels: the memory is worked through in tiles
    i64 parts;
    const float *mean, *scale, *bias;
    PlifNeuron neuron;
} PlifLayer;

#endif
