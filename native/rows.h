// Rows of output, block by block of channels, in parallel: what every way of computing sums does around them.
#ifndef ROWS_H
#define ROWS_H

#include "neuron.h"

// Columns of sums that are computed together: a pixel of a step is one.
#define GROUP 6
// Pixels of a row whose sums are kept until their neurons spike: steps * pixels columns of sums stay in the first cache.
#define MAX_COLUMNS 96

// Where one row of one sample's output goes, for the channels from k on: what both ways do around their sums.
typedef struct {
    const Layer *layer;
    i64 block;
    const float *scale, *bias, *q, *threshold;
    const float *old_membranes;  // of the first pixel, NULL like the layer's
    float *membranes, *counts;
    uint8_t *out;
    i64 out_step, out_pixel, room;  // bytes from step to step, from pixel to pixel; channels of the plane from k on
    VecI tally;
} Row;

INLINE Row row_of(const Layer *layer, i64 b, i64 y, i64 k, i64 block)
{
    const i64 index = (b * layer->height + y) * layer->width * layer->padded_channels + k;
    const Plane *out = layer->output;
    return (Row){
        .layer = layer,
        .block = block,
        .scale = layer->scale + k,
        .bias = layer->bias + k,
        .q = layer->q + k,
        .threshold = layer->threshold + k,
        .old_membranes = layer->old_membranes ? layer->old_membranes + index : NULL,
        .membranes = layer->membranes ? layer->membranes + index : NULL,
        .counts = layer->counts ? layer->counts + index : NULL,
        .out = out ? pixel(out, b, y, 0) + k : NULL,
        .out_step = out ? layer->batch * sample_bytes(out) : 0,
        .out_pixel = out ? out->channels : 0,
        .room = out ? out->channels - k : 0,
    };
}

// Pixels lie padded_channels apart, too far for the CPU to see what comes next.
INLINE void prefetch(const float *next, i64 size, const int write)
{
    for (i64 i = 0; next && i < size; i += 16)
        write ? __builtin_prefetch(next + i, 1) : __builtin_prefetch(next + i, 0); // constants, optimized or not
}

INLINE void begin(const Row *row, i64 x, VecF *v)
{
    const i64 pitch = row->layer->padded_channels, at = x * pitch, next = at + pitch;
    if (row->old_membranes)
        prefetch(row->old_membranes + next, row->block, 0);
    if (row->membranes)
        prefetch(row->membranes + next, row->block, 1);
    if (row->counts)
        prefetch(row->counts + next, row->block, 1);
    for (i64 i = 0; i < row->block; i += LANES) {
        v[i / LANES] = row->old_membranes ? load_f(row->old_membranes + at + i) : (VecF){0};
        if (row->counts)
            store_f(row->counts + at + i, (VecF){0});
    }
}

INLINE void end(const Row *row, i64 x, const VecF *v)
{
    if (row->membranes)
        for (i64 i = 0; i < row->block; i += LANES)
            store_f(row->membranes + x * row->layer->padded_channels + i, v[i / LANES]);
}

// What is known of a row beforehand, so that its innermost loop decides nothing: usual neurons whose spikes go out or are
// counted, neurons that answer with whole numbers, or none of that.
enum { SPIKES, COUNTS, WHOLE, ANYTHING };

INLINE int kind_of(const Layer *layer, i64 k, i64 block)
{
    if (layer->levels)
        return WHOLE;
    if (!is_usual(layer) || !layer->output == !layer->counts || (layer->output && layer->output->channels - k < block))
        return ANYTHING;
    return layer->output ? SPIKES : COUNTS;
}

// One pixel's neurons in one step: their membranes `v` change, their spikes go out and are counted.
INLINE void fire_pixel(Row *row, const Sum *sums, VecF *v, i64 t, i64 x, const int kind)
{
    uint8_t *out = row->out ? row->out + t * row->out_step + x * row->out_pixel : NULL;
    float *counts = row->counts ? row->counts + x * row->layer->padded_channels : NULL;
#pragma GCC unroll 8
    for (i64 i = 0; i < row->block; i += LANES) {
        const Sum sum = sums[i / LANES];
        const VecF real = row->layer->floats ? (VecF)sum : __builtin_convertvector(sum, VecF) * load_f(row->scale + i);
        if (kind == WHOLE) {
            const VecI spikes = whole_step(real + load_f(row->bias + i), v + i / LANES, load_f(row->q + i),
                                           row->threshold + i, row->layer);
            row->tally += spikes;
            if (counts)
                store_f(counts + i, load_f(counts + i) + __builtin_convertvector(spikes, VecF));
            if (out && i < row->room)
                store_bytes(out + i, spikes, row->room - i);
            continue;
        }
        const Fired fired = step(real + load_f(row->bias + i), v + i / LANES, load_f(row->q + i),
                                 load_f(row->threshold + i), row->layer, kind != ANYTHING);
        row->tally += ones(fired);
        if (kind == COUNTS || (kind == ANYTHING && counts))
            store_f(counts + i, load_f(counts + i) + __builtin_convertvector(ones(fired), VecF));
        if (kind == SPIKES || (kind == ANYTHING && out && row->room - i >= LANES))
            *(VecBU *)(out + i) = spikes_of(fired);
        else if (kind == ANYTHING && out) {
            const VecB bytes = spikes_of(fired);
            for (i64 j = 0; j < row->room - i; j++)
                out[i + j] = bytes[j];
        }
    }
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

// Writes sums[size][steps][16 * vectors] of the output channels from k on, int32 or float32.
typedef void (*Sums)(const void *context, const Layer *layer, const Stretch *at, i64 k, void *sums, const int vectors);

// A copy of one's own: the compiler then knows that no byte written changes it, and what its sums are.
INLINE Layer layer_for(const Layer *shared, const int floats)
{
    Layer own = *shared;
    own.floats = floats;
    return own;
}

INLINE i64 fire_row(const Layer *shared, Sums sums_of, const void *context, i64 b, i64 y, i64 k, const int floats,
                    const int kind, const int vectors)
{
    const Layer own = layer_for(shared, floats), *layer = &own;
    const i64 block = 16 * vectors, T = layer->num_steps;
    // Whole groups where possible; a long window is cut into stretches of steps.
    const i64 stretch = T < MAX_COLUMNS ? T : MAX_COLUMNS, most = MAX_COLUMNS / stretch;
    const i64 pixels = most > GROUP ? most - most % GROUP : most;
    const i64 lines = block / LANES;
    Sum sums[MAX_COLUMNS * 64 / LANES];
    VecF membranes[MAX_COLUMNS * 64 / LANES];
    Row row = row_of(layer, b, y, k, block);
    for (i64 first = 0; first < layer->width; first += pixels) {
        Stretch at = {b, y, first, layer->width - first < pixels ? layer->width - first : pixels, 0, 0};
        for (i64 j = 0; j < at.size; j++)
            begin(&row, first + j, membranes + j * lines);
        for (at.start = 0; at.start < T; at.start += stretch) {
            at.steps = T - at.start < stretch ? T - at.start : stretch;
            sums_of(context, layer, &at, k, sums, vectors);
            for (i64 j = 0; j < at.size; j++)
                for (i64 t = 0; t < at.steps; t++)
                    fire_pixel(&row, sums + (j * at.steps + t) * lines, membranes + j * lines, at.start + t, first + j,
                               kind);
        }
        for (i64 j = 0; j < at.size; j++)
            end(&row, first + j, membranes + j * lines);
    }
    return fired(&row);
}

INLINE i64 fire_rows(const Layer *layer, Sums sums_of, const void *context, i64 b, i64 y, i64 k, const int floats,
                     const int vectors)
{
    switch (kind_of(layer, k, 16 * vectors)) {
    case SPIKES: return fire_row(layer, sums_of, context, b, y, k, floats, SPIKES, vectors);
    case COUNTS: return fire_row(layer, sums_of, context, b, y, k, floats, COUNTS, vectors);
    case WHOLE: return fire_row(layer, sums_of, context, b, y, k, floats, WHOLE, vectors);
    default: return fire_row(layer, sums_of, context, b, y, k, floats, ANYTHING, vectors);
    }
}

// A function, by its name, a constant `Sums` and whether these are floats, that returns the number of spikes. Not a
// parameter: the compiler takes the body of a parallel loop out of its function, and what is passed on there is no constant
// any more.
#define DEFINE_FIRE_ROWS(NAME, SUMS, FLOATS)                                                                              \
    static i64 NAME(const Layer *layer, const void *context)                                                              \
    {                                                                                                                     \
        const i64 rows = layer->batch * layer->height, blocks = layer->padded_channels / layer->dense_block;              \
        i64 total = 0;                                                                                                    \
        _Pragma("omp parallel for schedule(dynamic, 1) reduction(+ : total)") for (i64 i = 0; i < blocks * rows; i++)     \
        {                                                                                                                 \
            const i64 k = i / rows * layer->dense_block, b = i % rows / layer->height, y = i % layer->height;             \
            if (layer->dense_block == 64)                                                                                 \
                total += fire_rows(layer, SUMS, context, b, y, k, FLOATS, 4);                                             \
            else if (layer->dense_block == 32)                                                                            \
                total += fire_rows(layer, SUMS, context, b, y, k, FLOATS, 2);                                             \
            else                                                                                                          \
                total += fire_rows(layer, SUMS, context, b, y, k, FLOATS, 1);                                             \
        }                                                                                                                 \
        return total;                                                                                                     \
    }

#endif
