// What the kernel of a decoder block in three convolutions takes.
#ifndef FACTORED_H
#define FACTORED_H

#include "spikes.h"

// One block; `hidden` is a multiple of 32. Biases already hold half of the last place that the shift behind them cuts off.
// Bounds of weights and shifts make sure that nothing overflows: see engine/separable.py.
typedef struct {
    const Plane *coarse, *skip;
    const Layer *layer;           // of the third convolution; its input is `filtered`
    const int8_t *expand_coarse;  // [coarse channels][hidden]
    const int8_t *expand_skip;    // [skip channels][hidden]
    const int32_t *expand_bias, *expand_shift;  // [hidden]
    const int16_t *filter;        // [3][3][hidden]
    const int32_t *filter_bias, *filter_shift;  // [hidden]
    const int16_t *project;       // [padded channels / dense block][hidden / 2][dense block][2]
    int32_t *coarse_sums;         // [T * B][coarse height][coarse width][hidden]
    int16_t *expanded;            // [T * B][height + 2][width + 2][hidden]
    int16_t *filtered;            // [T * B][height][width][hidden]
    i64 hidden;
} Factored;

#endif
