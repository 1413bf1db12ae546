// The passes of plif.c for one type of storage. Included once for each, with STORED, SUFFIX, get() and put() defined.

#define TYPED(name) JOIN(name, SUFFIX)
#define TYPED_KERNEL(name) JOIN(JOIN(scn_##name, SUFFIX), SCN_ISA)

// Mean and biased variance [2][C] of [rows][C], in the first of `partial` [parts][2][C]. `scratch` is [1 + 2 * parts][tile].
EXPORT void TYPED_KERNEL(plif_moments)(const STORED *y, i64 size, const PlifLayer *layer, float *scratch, double *partial)
{
    const i64 tile = layer->tile, num_channels = layer->num_channels, num_tiles = (size + tile - 1) / tile;
    // Distances to a value of the channel, not to 0: the square of a large mean would swallow a small variance.
    float *pivots = scratch;
    for (i64 j = 0; j < tile; j++)
        pivots[j] = get(y[j % num_channels]);
#pragma omp parallel for schedule(static) if (size > SMALL)
    for (i64 part = 0; part < layer->parts; part++) {
        float *restrict sums = scratch + (1 + 2 * part) * tile, *restrict squares = sums + tile;
        const float *restrict pivot = pivots;
        Flush flush = {sums, partial + 2 * part * num_channels, 2, num_channels, tile, 0};
        clear(&flush);
        for (i64 i = num_tiles * part / layer->parts; i < num_tiles * (part + 1) / layer->parts; i++) {
            const STORED *restrict in = y + i * tile;
            const i64 n = least(tile, size - i * tile);
#pragma omp simd
            for (i64 j = 0; j < n; j++) {
                const float d = get(in[j]) - pivot[j];
                sums[j] += d;
                squares[j] += d * d;
            }
            count_tile(&flush);
        }
        write_sums(&flush);
    }
    add_parts(partial, layer->parts, 2 * num_channels);
    for (i64 c = 0; c < num_channels; c++) {
        const double count = (double)(size / num_channels);
        const double distance = partial[c] / count, variance = partial[num_channels + c] / count - distance * distance;
        partial[c] = (double)pivots[c] + distance;
        partial[num_channels + c] = variance > 0 ? variance : 0;
    }
}

// `room` values of a step from place j; LANES of them are a constant where they can be.
INLINE void TYPED(forward_lanes)(const STORED *in, STORED *out, float *v, i64 j, i64 room, PlifNeuron n,
                                 const PlifLayer *layer)
{
    const VecF centered = load((const char *)(in + j), room, sizeof *in) - load_f(layer->mean + j);
    const VecF h = charge(centered * load_f(layer->scale + j) + load_f(layer->bias + j), load_f(v + j), n);
    const VecF fired = spikes_at(h, n);
    store((char *)(out + j), fired, room, sizeof *out);
    store_f(v + j, after_spikes(h, fired, n));
}

INLINE void TYPED(forward_tile)(const STORED *y, STORED *spikes, float *v, i64 n, const PlifLayer *layer)
{
    const i64 whole = n - n % LANES;
    for (i64 t = 0; t < layer->num_steps; t++) {
        const STORED *in = y + t * layer->num_neurons;
        STORED *out = spikes + t * layer->num_neurons;
        for (i64 j = 0; j < whole; j += LANES)
            TYPED(forward_lanes)(in, out, v, j, LANES, layer->neuron, layer);
        if (whole < n)
            TYPED(forward_lanes)(in, out, v, whole, n - whole, layer->neuron, layer);
    }
}

// v_first and v_last [N] may be NULL: zero-initialized, the last not kept. `scratch` is [3 + parts][tile].
EXPORT void TYPED_KERNEL(plif_forward)(const STORED *y, STORED *spikes, const float *v_first, float *v_last,
                                       const PlifLayer *narrow, float *scratch)
{
    const PlifLayer wide = widened(narrow, scratch), *layer = &wide;
    const i64 tile = layer->tile, size = layer->num_neurons, num_tiles = (size + tile - 1) / tile;
#pragma omp parallel for schedule(static) if (size * layer->num_steps > SMALL)
    for (i64 part = 0; part < layer->parts; part++) {
        float *v = scratch + (3 + part) * tile;
        for (i64 i = num_tiles * part / layer->parts; i < num_tiles * (part + 1) / layer->parts; i++) {
            const i64 first = i * tile, n = least(tile, size - first);
            start(v, v_first, first, n, tile);
            TYPED(forward_tile)(y + first, spikes + first, v, n, layer);
            if (v_last)
                memcpy(v_last + first, v, (size_t)n * sizeof *v);
        }
    }
}

// One step of the way forward again: centered input, membrane before and after charging go to `row` [3][tile].
INLINE void TYPED(again_lanes)(const STORED *in, float *row, float *v, i64 j, i64 room, PlifNeuron n,
                               const PlifLayer *layer)
{
    const VecF centered = load((const char *)(in + j), room, sizeof *in) - load_f(layer->mean + j), before = load_f(v + j);
    const VecF h = charge(centered * load_f(layer->scale + j) + load_f(layer->bias + j), before, n);
    store_f(row + j, centered);
    store_f(row + layer->tile + j, before);
    store_f(row + 2 * layer->tile + j, h);
    store_f(v + j, after_spikes(h, spikes_at(h, n), n));
}

INLINE void TYPED(backward_lanes)(const STORED *grad, STORED *grad_x, const float *row, float *carry, float *sums, i64 j,
                                  i64 room, PlifNeuron n, const PlifLayer *layer)
{
    const i64 tile = layer->tile;
    const VecF centered = load_f(row + j), before = load_f(row + tile + j), h = load_f(row + 2 * tile + j);
    const VecF g_h = grad_charged(load((const char *)(grad + j), room, sizeof *grad), load_f(carry + j), h, n);
    const VecF g_x = grad_input(g_h, n);
    const VecF x = centered * load_f(layer->scale + j) + load_f(layer->bias + j);
    store((char *)(grad_x + j), g_x, room, sizeof *grad_x);
    store_f(carry + j, grad_membrane(g_h, n));
    add_to(sums + j, g_x);
    add_to(sums + tile + j, g_x * centered);
    add_to(sums + 2 * tile + j, grad_leak(g_h, x, before, n));
}

// `steps_rows` [3 * T][tile] is what again_lanes() leaves of every step.
INLINE void TYPED(backward_tile)(const STORED *grad, const STORED *y, STORED *grad_x, float *v, float *carry, float *sums,
                                 float *steps_rows, i64 n, const PlifLayer *layer)
{
    const i64 whole = n - n % LANES, stride = layer->num_neurons;
    for (i64 t = 0; t < layer->num_steps; t++) {
        float *row = steps_rows + 3 * t * layer->tile;
        for (i64 j = 0; j < whole; j += LANES)
            TYPED(again_lanes)(y + t * stride, row, v, j, LANES, layer->neuron, layer);
        if (whole < n)
            TYPED(again_lanes)(y + t * stride, row, v, whole, n - whole, layer->neuron, layer);
    }
    for (i64 t = layer->num_steps - 1; t >= 0; t--) {
        const STORED *in = grad + t * stride;
        STORED *out = grad_x + t * stride;
        const float *row = steps_rows + 3 * t * layer->tile;
        for (i64 j = 0; j < whole; j += LANES)
            TYPED(backward_lanes)(in, out, row, carry, sums, j, LANES, layer->neuron, layer);
        if (whole < n)
            TYPED(backward_lanes)(in, out, row, carry, sums, whole, n - whole, layer->neuron, layer);
    }
}

// Writes the gradient at the neurons' input, and to the first of `partial` [parts][3][C] the sums per channel of it, of it
// times the centered y, and of the gradient of q. v_first, grad_v_last (read) and grad_v_first (written) may be NULL.
// `scratch` is [3 + parts * part_rows][tile].
EXPORT void TYPED_KERNEL(plif_backward)(const STORED *grad, const STORED *y, const float *v_first,
                                        const float *grad_v_last, STORED *grad_x, float *grad_v_first,
                                        const PlifLayer *narrow, float *scratch, i64 part_rows, double *partial)
{
    const PlifLayer wide = widened(narrow, scratch), *layer = &wide;
    const i64 tile = layer->tile, size = layer->num_neurons, num_tiles = (size + tile - 1) / tile;
#pragma omp parallel for schedule(static) if (size * layer->num_steps > SMALL)
    for (i64 part = 0; part < layer->parts; part++) {
        float *sums = scratch + (3 + part * part_rows) * tile, *v = sums + 3 * tile, *carry = v + tile;
        Flush flush = {sums, partial + 3 * part * layer->num_channels, 3, layer->num_channels, tile, 0};
        clear(&flush);
        for (i64 i = num_tiles * part / layer->parts; i < num_tiles * (part + 1) / layer->parts; i++) {
            const i64 first = i * tile, n = least(tile, size - first);
            start(v, v_first, first, n, tile);
            start(carry, grad_v_last, first, n, tile);
            TYPED(backward_tile)(grad + first, y + first, grad_x + first, v, carry, sums, carry + tile, n, layer);
            if (grad_v_first)
                memcpy(grad_v_first + first, carry, (size_t)n * sizeof *carry);
            count_tile(&flush);
        }
        write_sums(&flush);
    }
    add_parts(partial, layer->parts, 3 * layer->num_channels);
}

// Batch norm's part of the backward pass, in place: grad_x = grad_x * scale + (y - mean) * slope + bias. `scratch` is
// [4][tile].
EXPORT void TYPED_KERNEL(plif_normalise)(STORED *grad_x, const STORED *y, i64 size, const PlifLayer *narrow,
                                         const float *slopes, float *scratch)
{
    const PlifLayer wide = widened(narrow, scratch), *layer = &wide;
    const i64 tile = layer->tile, num_tiles = (size + tile - 1) / tile;
    const float *restrict mean = layer->mean, *restrict scale = layer->scale, *restrict bias = layer->bias;
    const float *restrict slope = repeated(scratch + 3 * tile, slopes, layer);
#pragma omp parallel for schedule(static) if (size > SMALL)
    for (i64 i = 0; i < num_tiles; i++) {
        STORED *restrict g = grad_x + i * tile;
        const STORED *restrict in = y + i * tile;
        const i64 n = least(tile, size - i * tile);
#pragma omp simd
        for (i64 j = 0; j < n; j++)
            g[j] = put(get(g[j]) * scale[j] + (get(in[j]) - mean[j]) * slope[j] + bias[j]);
    }
}

#undef TYPED
#undef TYPED_KERNEL
