// Neurons behind a convolution that somebody else has computed.
#include "neuron.h"

typedef uint16_t VecH __attribute__((vector_size(2 * LANES)));
typedef uint32_t VecU __attribute__((vector_size(4 * LANES)));

// Values that may end before the last lane.
INLINE VecF load_float32(const void *p, i64 room)
{
    VecF v = {0};
    memcpy(&v, p, room < LANES ? (size_t)room * 4 : sizeof v);
    return v;
}

INLINE void store_float32(void *p, VecI fired, i64 room)
{
    const VecF v = -__builtin_convertvector(fired, VecF);
    memcpy(p, &v, room < LANES ? (size_t)room * 4 : sizeof v);
}

INLINE VecF load_bfloat16(const void *p, i64 room)
{
    VecH v = {0};
    memcpy(&v, p, room < LANES ? (size_t)room * 2 : sizeof v);
    return (VecF)(__builtin_convertvector(v, VecU) << 16);
}

INLINE void store_bfloat16(void *p, VecI fired, i64 room)
{
    const VecH v = __builtin_convertvector(fired & 0x3f80, VecH);
    memcpy(p, &v, room < LANES ? (size_t)room * 2 : sizeof v);
}

// Replace currents [T * B][H][W][channels] by the spikes they cause, or only add those up in layer->counts.
#define DEFINE_FIRE(TYPE, SIZE)                                                                                           \
    EXPORT void KERNEL(fire_##TYPE)(const Layer *layer, char *currents, i64 channels)                                     \
    {                                                                                                                     \
        const i64 rows = layer->batch * layer->height, places = rows * layer->width;                                      \
        _Pragma("omp parallel for schedule(static)") for (i64 place = 0; place < places; place++)                         \
        {                                                                                                                 \
            const i64 at = place * layer->padded_channels;                                                                \
            for (i64 k = 0; k < channels; k += LANES) {                                                                   \
                const VecF q = load_f(layer->q + k), threshold = load_f(layer->threshold + k);                            \
                VecF v = layer->old_membranes ? load_f(layer->old_membranes + at + k) : (VecF){0};                        \
                VecI total = {0};                                                                                         \
                for (i64 t = 0; t < layer->num_steps; t++) {                                                              \
                    char *current = currents + ((t * places + place) * channels + k) * SIZE;                              \
                    const VecI fired = step(load_##TYPE(current, channels - k), &v, q, threshold, layer);                 \
                    if (layer->counts)                                                                                    \
                        total -= fired;                                                                                   \
                    else                                                                                                  \
                        store_##TYPE(current, fired, channels - k);                                                       \
                }                                                                                                         \
                if (layer->membranes)                                                                                     \
                    store_f(layer->membranes + at + k, v);                                                                \
                if (layer->counts)                                                                                        \
                    store_f(layer->counts + at + k, __builtin_convertvector(total, VecF));                                \
            }                                                                                                             \
        }                                                                                                                 \
    }

DEFINE_FIRE(float32, 4)
DEFINE_FIRE(bfloat16, 2)
