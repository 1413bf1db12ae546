// Integrate-and-fire neurons, whatever computed their input. Every operation is rounded to float32 in the order of
// nn/neuron.py, so that spikes and membranes equal those of the eager loop to the last bit.
#ifndef NEURON_H
#define NEURON_H

#include "spikes.h"
#include "vectors.h"

// One step: returns -1 where a neuron fires, 0 elsewhere.
INLINE VecI step(VecF x, VecF *v, VecF q, VecF threshold, const Layer *layer)
{
    VecF h;
    if (!layer->leaky)
        h = *v + x;
    else if (layer->decay_input)
        h = *v + (x - *v) * q;
    else
        h = *v - *v * q + x;
    const VecI fired = h >= threshold;
    const VecF reset = layer->soft_reset ? h - threshold : (VecF){0};
    *v = (VecF)((fired & (VecI)reset) | (~fired & (VecI)h));
    return fired;
}

// One pixel's channels [k, k + block) in one step: sums in, spikes out to `out`, which has room for `room` channels, and
// added to `counts`; `out` and `counts` may be NULL. `v` holds the membranes, `tally` how often each lane fired.
INLINE void fire(const int32_t *sums, float *v, const Layer *layer, i64 k, i64 block, uint8_t *out, i64 room, float *counts,
                 VecI *tally)
{
    for (i64 i = 0; i < block; i += LANES) {
        const VecF x = __builtin_convertvector(load_i(sums + i), VecF) * load_f(layer->scale + k + i) +
                       load_f(layer->bias + k + i);
        VecF membrane = load_f(v + i);
        const VecI fired = step(x, &membrane, load_f(layer->q + k + i), load_f(layer->threshold + k + i), layer);
        store_f(v + i, membrane);
        *tally -= fired;
        if (counts)
            store_f(counts + i, load_f(counts + i) - __builtin_convertvector(fired, VecF));
        if (out) {
            const VecB bytes = __builtin_convertvector(-fired, VecB);
            if (room - i >= LANES)
                *(VecBU *)(out + i) = bytes;
            else if (room > i)
                memcpy(out + i, &bytes, (size_t)(room - i));
        }
    }
}

#endif
