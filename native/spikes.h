// Spikes on a grid, and what a convolution of them needs to know.
//
// A plane holds the spikes of T steps and B samples as bytes 0 or 1, uint8 [T * B][H + 2 halo][W + 2 halo][C]: the halo is
// always zero, so that no convolution looks out for the border. C is a multiple of 4.
#ifndef SPIKES_H
#define SPIKES_H

#include "scn.h"

typedef struct {
    i64 height, width, channels, halo;
    uint8_t *bytes;
} Plane;

INLINE i64 row_bytes(const Plane *p) { return (p->width + 2 * p->halo) * p->channels; }
INLINE i64 sample_bytes(const Plane *p) { return (p->height + 2 * p->halo) * row_bytes(p); }

// Active inputs of a plane, row by row: keys[row][...] are x * C + c (x counted from the halo's edge), and the keys of the
// pixels before x number offsets[row][x]. Rows of the halo are empty.
typedef struct {
    uint32_t *keys;    // [T * B * (H + 2 halo)][row_bytes + LIST_SLACK]
    int32_t *offsets;  // [T * B * (H + 2 halo)][W + 2 halo + 1]
} Lists;

// A vector store of compressed keys may write this many keys past the last one.
#define LIST_SLACK 64

// The neurons of a layer, one value a channel, padded to the block size: current = sum * scale + bias.
typedef struct {
    const float *scale, *bias, *q, *threshold;
    int32_t leaky, decay_input, soft_reset, reserved;
} Neurons;

// Where the results go. Exactly one of spikes, counts and sums is used.
typedef struct {
    const Plane *spikes;  // spikes of every step
    uint8_t *counts;      // [B][H][W][channels]: spikes summed over the steps, zero before the call
    int32_t *sums;        // [T * B][H][W][padded channels]: the convolution's bare sums, no neurons
    float *membranes;     // [B][H][W][padded channels], read and overwritten; NULL: start at rest and forget
    i64 height, width, channels, padded_channels;
} Target;

#endif
