// Rows of output, block by block of channels, in parallel: what every way of computing sums does around them.
#ifndef ROWS_H
#define ROWS_H

#include "neuron.h"

// Columns of sums that are computed together: a pixel of a step is one.
#define GROUP 6
// Pixels of a row whose sums are kept until their neurons fire: steps * pixels columns of sums stay in the first cache.
#define MAX_COLUMNS 96

INLINE i64 index_of(const Layer *layer, i64 b, i64 y, i64 x)
{
    return ((b * layer->height + y) * layer->width + x) * layer->padded_channels;
}

INLINE i64 sum_lanes(VecI tally)
{
    i64 total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += tally[lane];
    return total;
}

INLINE void begin(const Layer *layer, i64 index, i64 k, i64 block, float *v)
{
    if (layer->old_membranes)
        memcpy(v, layer->old_membranes + index + k, (size_t)block * sizeof *v);
    else
        memset(v, 0, (size_t)block * sizeof *v);
    if (layer->counts)
        memset(layer->counts + index + k, 0, (size_t)block * sizeof *v);
}

INLINE void end(const Layer *layer, i64 index, i64 k, i64 block, const float *v)
{
    if (layer->membranes)
        memcpy(layer->membranes + index + k, v, (size_t)block * sizeof *v);
}

INLINE void fire_pixel(const Layer *layer, const int32_t *sums, float *v, i64 t, i64 b, i64 y, i64 x, i64 k, i64 block,
                       VecI *tally)
{
    uint8_t *out = layer->out ? pixel(layer->out, t * layer->batch + b, y, x) + k : NULL;
    float *counts = layer->counts ? layer->counts + index_of(layer, b, y, x) + k : NULL;
    fire(sums, v, layer, k, block, out, layer->out ? layer->out->channels - k : 0, counts, tally);
}

// Steps [start, start + steps) of the output pixels [first, first + size) of row y of sample b.
typedef struct {
    i64 b, y, first, size, start, steps;
} Stretch;

// Writes sums[size][steps][16 * vectors] of the output channels from k on.
typedef void (*Sums)(const void *context, const Layer *layer, const Stretch *at, i64 k, int32_t *sums, const int vectors);

INLINE i64 fire_row(const Layer *layer, Sums sums_of, const void *context, i64 b, i64 y, i64 k, const int vectors)
{
    const i64 block = 16 * vectors, T = layer->num_steps;
    // Whole groups where possible; a long window is cut into stretches of steps.
    i64 stretch = T < MAX_COLUMNS ? T : MAX_COLUMNS, pixels = MAX_COLUMNS / stretch;
    if (pixels > GROUP)
        pixels -= pixels % GROUP;
    int32_t sums[MAX_COLUMNS * 64];
    float membranes[MAX_COLUMNS * 64];
    VecI tally = {0};
    for (i64 first = 0; first < layer->width; first += pixels) {
        Stretch at = {b, y, first, layer->width - first < pixels ? layer->width - first : pixels, 0, 0};
        for (i64 j = 0; j < at.size; j++)
            begin(layer, index_of(layer, b, y, first + j), k, block, membranes + j * block);
        for (at.start = 0; at.start < T; at.start += stretch) {
            at.steps = T - at.start < stretch ? T - at.start : stretch;
            sums_of(context, layer, &at, k, sums, vectors);
            for (i64 j = 0; j < at.size; j++)
                for (i64 t = 0; t < at.steps; t++)
                    fire_pixel(layer, sums + (j * at.steps + t) * block, membranes + j * block, at.start + t, b, y,
                               first + j, k, block, &tally);
        }
        for (i64 j = 0; j < at.size; j++)
            end(layer, index_of(layer, b, y, first + j), k, block, membranes + j * block);
    }
    return sum_lanes(tally);
}

// A function, by its name and a constant `Sums`, that returns the number of spikes. Not a parameter: the compiler takes the
// body of a parallel loop out of its function, and what is passed on there is no constant any more.
#define DEFINE_FIRE_ROWS(NAME, SUMS)                                                                                      \
    static i64 NAME(const Layer *layer, const void *context)                                                              \
    {                                                                                                                     \
        const i64 rows = layer->batch * layer->height, blocks = layer->padded_channels / layer->dense_block;              \
        i64 total = 0;                                                                                                    \
        _Pragma("omp parallel for schedule(dynamic, 1) reduction(+ : total)") for (i64 i = 0; i < blocks * rows; i++)     \
        {                                                                                                                 \
            const i64 k = i / rows * layer->dense_block, b = i % rows / layer->height, y = i % layer->height;             \
            if (layer->dense_block == 64)                                                                                 \
                total += fire_row(layer, SUMS, context, b, y, k, 4);                                                      \
            else if (layer->dense_block == 32)                                                                            \
                total += fire_row(layer, SUMS, context, b, y, k, 2);                                                      \
            else                                                                                                          \
                total += fire_row(layer, SUMS, context, b, y, k, 1);                                                      \
        }                                                                                                                 \
        return total;                                                                                                     \
    }

#endif
