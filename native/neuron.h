// Integrate-and-fire neurons over some steps, whatever computed their input. Every operation is rounded to float32 in the
// order of nn/neuron.py, so that spikes and membranes equal those of the eager loop to the last bit.
#ifndef NEURON_H
#define NEURON_H

#include "spikes.h"

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float VecF __attribute__((vector_size(4 * LANES)));
typedef float VecFU __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t VecI __attribute__((vector_size(4 * LANES)));
typedef int32_t VecIU __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint8_t VecB __attribute__((vector_size(LANES)));
typedef uint8_t VecBU __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE VecF load_f(const float *p) { return *(const VecFU *)p; }
INLINE void store_f(float *p, VecF v) { *(VecFU *)p = v; }
INLINE VecI load_i(const int32_t *p) { return *(const VecIU *)p; }
INLINE void store_i(int32_t *p, VecI v) { *(VecIU *)p = v; }

// One step: returns -1 where a neuron fires, 0 elsewhere.
INLINE VecI step(VecF x, VecF *v, VecF q, VecF threshold, const Neurons *neurons)
{
    VecF h;
    if (!neurons->leaky)
        h = *v + x;
    else if (neurons->decay_input)
        h = *v + (x - *v) * q;
    else
        h = *v - *v * q + x;
    const VecI fired = h >= threshold;
    const VecF reset = neurons->soft_reset ? h - threshold : (VecF){0};
    *v = (VecF)((fired & (VecI)reset) | (~fired & (VecI)h));
    return fired;
}

// Bytes may end before the last lane: channels are padded for computing, not in memory.
INLINE void store_bytes(uint8_t *p, VecB bytes, i64 room)
{
    if (room >= LANES)
        *(VecBU *)p = bytes;
    else if (room > 0)
        memcpy(p, &bytes, (size_t)room);
}

INLINE VecB load_bytes(const uint8_t *p, i64 room)
{
    VecB bytes = {0};
    if (room >= LANES)
        bytes = *(const VecBU *)p;
    else if (room > 0)
        memcpy(&bytes, p, (size_t)room);
    return bytes;
}

// Turn the currents of `steps` steps (current[s * stride + lane], already scaled) of one vector of channels into spikes.
// `out` is the first step's byte of the first channel, `out_stride` the bytes between steps, `room` the channels there.
INLINE i64 fire(const float *current, i64 stride, int steps, float *membrane, i64 k, const Neurons *neurons, uint8_t *out,
                i64 out_stride, uint8_t *counts, i64 room)
{
    const VecF q = load_f(neurons->q + k), threshold = load_f(neurons->threshold + k);
    VecF v = load_f(membrane);
    VecI total = {0};
    for (int s = 0; s < steps; s++) {
        const VecI fired = step(load_f(current + s * stride), &v, q, threshold, neurons);
        total -= fired;
        if (out)
            store_bytes(out + s * out_stride, __builtin_convertvector(-fired, VecB), room);
    }
    store_f(membrane, v);
    if (counts)
        store_bytes(counts, load_bytes(counts, room) + __builtin_convertvector(total, VecB), room);
    i64 sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += total[lane];
    return sum;
}

#endif
