// Spikes on a grid, and what a convolution of them needs to know.
//
// A plane holds the spikes of T steps and B samples as bytes, how many a neuron has, 0 to MAX_SPIKES: uint8 [T * B][H + 2 halo][W + 2 halo][C]: the halo is
// always zero, so that no convolution looks out for the border. C is a multiple of 4; channels without meaning are zero.
#ifndef SPIKES_H
#define SPIKES_H

#include "scn.h"

typedef struct {
    i64 height, width, channels, halo;
    uint8_t *bytes;
} Plane;

// Most spikes of a neuron in a step: eight bytes' sum fits a byte, and so on.
#define MAX_SPIKES 8

INLINE i64 row_bytes(const Plane *p) { return (p->width + 2 * p->halo) * p->channels; }
INLINE i64 sample_bytes(const Plane *p) { return (p->height + 2 * p->halo) * row_bytes(p); }

// The first byte of a pixel; -halo <= y < height + halo, likewise x.
INLINE uint8_t *pixel(const Plane *p, i64 n, i64 y, i64 x)
{
    return p->bytes + n * sample_bytes(p) + (y + p->halo) * row_bytes(p) + (x + p->halo) * p->channels;
}

INLINE i64 count_spikes(const uint8_t *bytes, i64 size)
{
    i64 total = 0, i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + i, 8);
        total += (i64)(eight * 0x0101010101010101ull >> 56);
    }
    for (; i < size; i++)
        total += bytes[i];
    return total;
}

// One layer: a square convolution with padding kernel / 2 and its neurons, current = sum * scale + bias. Arrays of one value
// a channel are padded to padded_channels, a multiple of both blocks; so are the membranes and the counts.
typedef struct {
    const Plane *input, *output;  // output may be NULL: then only the counts are kept
    const int8_t *dense_weights;  // [padded_channels / dense_block][kernel][kernel * C / 4][dense_block][4]
    const void *event_weights;    // [padded_channels / event_block][kernel (x)][kernel (y)][C][event_block]: float32, or
                                  // bytes as events.c tells
    const float *scale, *bias, *q;
    const float *threshold;      // [1 + levels][padded_channels]: first what a spike takes from the membrane; without levels
                                 // also where it comes, else the membranes at which 1, 2, ... spikes come
    const float *old_membranes;  // [B][H][W][padded_channels], NULL: zero-initialized
    float *membranes;            // the same after the last step; NULL: not wanted
    float *counts;               // [B][H][W][padded_channels]: spikes summed over the steps; NULL: not wanted
    i64 num_steps, batch, kernel, stride, height, width, padded_channels, dense_block, event_block;
    int32_t leaky, decay_input, soft_reset;
    int32_t levels;         // most spikes of a neuron in a step where they are whole numbers, whose reset is soft; else 0
    int32_t largest_input;  // most spikes in a byte of the input
    int32_t floats;  // weights and sums are float32; the scale is 1 and never read
} Layer;

// Active inputs of one sample's output rows, each as often as it spikes. keys[t][y][...] are byte offsets of event weights, ((x * kernel + ky) * C + c) *
// event_bytes, x counted from the halo's edge: the inputs of one output pixel lie side by side. offsets[t][y][x] is how many
// keys come before column x.
typedef struct {
    uint32_t *keys;    // [T * height][list_capacity(layer)]
    int32_t *offsets;  // [T * height][W + 2 halo + 1]
} Lists;

// Vector stores of compressed keys may write 32 keys past the last one, and must not reach what is still to be read.
#define LIST_SLACK 64

// Bytes of the weights of one input.
INLINE i64 event_bytes(const Layer *l) { return l->floats ? 4 * l->event_block : l->event_block; }

INLINE i64 list_capacity(const Layer *l) { return l->largest_input * l->kernel * row_bytes(l->input) + LIST_SLACK; }

#endif
