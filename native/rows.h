// Rows of output, block by block of channels, in parallel: what every way of computing sums does around them.
#ifndef ROWS_H
#define ROWS_H

#include "neuron.h"

// Columns of sums that are computed together: a pixel of a step is one.
#define GROUP 6
// Pixels of a row whose sums are kept until their neurons fire: steps * pixels columns of sums stay in the first cache.
#define MAX_COLUMNS 96

// Where one row of one sample's output goes, for the channels from k on: what both ways do around their sums.
typedef struct {
    const Layer *layer;
    i64 k, block;
    const float *old_membranes;  // of the first pixel, NULL like the layer's
    float *membranes, *counts;
    uint8_t *out;
    i64 out_step, out_pixel, room;  // bytes from step to step, from pixel to pixel; channels of the plane from k on
    VecI tally;
} Row;

INLINE Row row_of(const Layer *layer, i64 b, i64 y, i64 k, i64 block)
{
    const i64 index = (b * layer->height + y) * layer->width * layer->padded_channels + k;
    const Plane *out = layer->out;
    return (Row){
        .layer = layer,
        .k = k,
        .block = block,
        .old_membranes = layer->old_membranes ? layer->old_membranes + index : NULL,
        .membranes = layer->membranes ? layer->membranes + index : NULL,
        .counts = layer->counts ? layer->counts + index : NULL,
        .out = out ? pixel(out, b, y, 0) + k : NULL,
        .out_step = out ? layer->batch * sample_bytes(out) : 0,
        .out_pixel = out ? out->channels : 0,
        .room = out ? out->channels - k : 0,
    };
}

INLINE void begin(const Row *row, i64 x, float *v)
{
    const i64 at = x * row->layer->padded_channels;
    if (row->old_membranes)
        memcpy(v, row->old_membranes + at, (size_t)row->block * sizeof *v);
    else
        memset(v, 0, (size_t)row->block * sizeof *v);
    if (row->counts)
        memset(row->counts + at, 0, (size_t)row->block * sizeof *v);
}

INLINE void end(const Row *row, i64 x, const float *v)
{
    if (row->membranes)
        memcpy(row->membranes + x * row->layer->padded_channels, v, (size_t)row->block * sizeof *v);
}

INLINE void fire_pixel(Row *row, const int32_t *sums, float *v, i64 t, i64 x)
{
    uint8_t *out = row->out ? row->out + t * row->out_step + x * row->out_pixel : NULL;
    float *counts = row->counts ? row->counts + x * row->layer->padded_channels : NULL;
    fire(sums, v, row->layer, row->k, row->block, out, row->room, counts, &row->tally);
}

INLINE i64 fired(const Row *row)
{
    i64 total = 0;
    for (int lane = 0; lane < LANES; lane++)
        total += row->tally[lane];
    return total;
}

// Steps [start, start + steps) of the output pixels [first, first + size) of row y of sample b.
typedef struct {
    i64 b, y, first, size, start, steps;
} Stretch;

// Writes sums[size][steps][16 * vectors] of the output channels from k on.
typedef void (*Sums)(const void *context, const Layer *layer, const Stretch *at, i64 k, int32_t *sums, const int vectors);

INLINE i64 fire_row(const Layer *shared, Sums sums_of, const void *context, i64 b, i64 y, i64 k, const int vectors)
{
    // A copy of its own: the compiler then knows that no byte written changes it.
    const Layer own = *shared, *layer = &own;
    const i64 block = 16 * vectors, T = layer->num_steps;
    // Whole groups where possible; a long window is cut into stretches of steps.
    const i64 stretch = T < MAX_COLUMNS ? T : MAX_COLUMNS, most = MAX_COLUMNS / stretch;
    const i64 pixels = most > GROUP ? most - most % GROUP : most;
    int32_t sums[MAX_COLUMNS * 64];
    float membranes[MAX_COLUMNS * 64];
    Row row = row_of(layer, b, y, k, block);
    for (i64 first = 0; first < layer->width; first += pixels) {
        Stretch at = {b, y, first, layer->width - first < pixels ? layer->width - first : pixels, 0, 0};
        for (i64 j = 0; j < at.size; j++)
            begin(&row, first + j, membranes + j * block);
        for (at.start = 0; at.start < T; at.start += stretch) {
            at.steps = T - at.start < stretch ? T - at.start : stretch;
            sums_of(context, layer, &at, k, sums, vectors);
            for (i64 j = 0; j < at.size; j++)
                for (i64 t = 0; t < at.steps; t++)
                    fire_pixel(&row, sums + (j * at.steps + t) * block, membranes + j * block, at.start + t, first + j);
        }
        for (i64 j = 0; j < at.size; j++)
            end(&row, first + j, membranes + j * block);
    }
    return fired(&row);
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
