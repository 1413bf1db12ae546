// Neurons of a memory: what their step needs to know.
#ifndef GATED_H
#define GATED_H

#include "spikes.h"

// `currents` [T * B][H][W][padded_currents] are the drives of all channels and behind them their gates.
typedef struct {
    const Plane *input, *output;  // of as many channels; the output is the input joined by OR with the spikes
    const float *currents;
    const float *old_membranes;  // [B][H][W][padded_channels], NULL: zero-initialized
    float *membranes;            // the same after the last step; NULL: not wanted
    i64 num_steps, batch, height, width, channels, padded_channels, padded_currents;
    float threshold;
} Gated;

#endif
