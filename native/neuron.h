// Integrate-and-fire neurons, whatever computed their input. Every operation is rounded to float32 in the order of
// model/neurons.py, so that spikes and membranes equal those of the eager loop to the last bit.
#ifndef NEURON_H
#define NEURON_H

#include "spikes.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// Bytes of a vector register, and how many channels are computed at a time.
#if defined(__AVX512F__)
#define WIDEST 64
#elif defined(__AVX2__)
#define WIDEST 32
#else
#define WIDEST 16
#endif
#define LANES (WIDEST / 4)

#include "vectors.h"

typedef int16_t VecS __attribute__((vector_size(2 * LANES)));
typedef int16_t VecSU __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

// Signed lanes of 16 bits in 32: the compiler alone would do this half by half.
INLINE VecI widen(VecS v)
{
#if defined(__AVX512F__)
    return (VecI)_mm512_cvtepi16_epi32((__m256i)v);
#elif defined(__AVX2__)
    return (VecI)_mm256_cvtepi16_epi32((__m128i)v);
#else
    return __builtin_convertvector(v, VecI);
#endif
}

// Which neurons spike: a mask register, or -1 and 0 in every lane.
#if defined(__AVX512F__)
typedef __mmask16 Fired;
INLINE Fired reach(VecF h, VecF threshold) { return _mm512_cmp_ps_mask((__m512)h, (__m512)threshold, _CMP_GE_OQ); }
INLINE VecF either(Fired fired, VecF yes, VecF no) { return (VecF)_mm512_mask_blend_ps(fired, (__m512)no, (__m512)yes); }
INLINE VecI ones(Fired fired) { return (VecI)_mm512_maskz_mov_epi32(fired, _mm512_set1_epi32(1)); }
INLINE VecB spikes_of(Fired fired) { return (VecB)_mm_maskz_mov_epi8(fired, _mm_set1_epi8(1)); }
#else
typedef VecI Fired;
INLINE Fired reach(VecF h, VecF threshold) { return h >= threshold; }
INLINE VecF either(Fired fired, VecF yes, VecF no) { return (VecF)((fired & (VecI)yes) | (~fired & (VecI)no)); }
INLINE VecI ones(Fired fired) { return -fired; }
// In two steps: in one, gcc takes the bytes apart.
INLINE VecB spikes_of(Fired fired) { return __builtin_convertvector(__builtin_convertvector(-fired, VecH), VecB); }
#endif

// The usual neuron: leaky, in its input too, and reset to zero.
INLINE int is_usual(const Layer *layer) { return layer->leaky && layer->decay_input && !layer->soft_reset; }

// Membranes after leak and input.
INLINE VecF charge(VecF x, VecF v, VecF q, const Layer *layer)
{
    if (!layer->leaky)
        return v + x;
    return layer->decay_input ? v + (x - v) * q : v - v * q + x;
}

// One step; the membranes `v` become those after it. `usual` is 1 where it is known beforehand that the neuron is.
INLINE Fired step(VecF x, VecF *v, VecF q, VecF threshold, const Layer *layer, const int usual)
{
    const VecF h = usual ? *v + (x - *v) * q : charge(x, *v, q, layer);
    const Fired fired = reach(h, threshold);
    *v = either(fired, !usual && layer->soft_reset ? h - threshold : (VecF){0}, h);
    return fired;
}

// The same of a neuron that answers with whole numbers: how many times it spikes. `threshold` is that of a layer with levels.
INLINE VecI whole_step(VecF x, VecF *v, VecF q, const float *threshold, const Layer *layer)
{
    const VecF h = charge(x, *v, q, layer);
    VecI spikes = {0};
    for (int32_t k = 1; k <= layer->levels; k++)
        spikes += ones(reach(h, load_f(threshold + k * layer->padded_channels)));
    *v = h - __builtin_convertvector(spikes, VecF) * load_f(threshold);
    return spikes;
}

// What a convolution adds up to: whole numbers, or the bits of float32 where the layer says so.
typedef VecI Sum;

#endif
