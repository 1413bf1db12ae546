// Neurons behind a convolution that somebody else has computed.
#include "neuron.h"

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
                        store_##TYPE(current, -__builtin_convertvector(fired, VecF), channels - k);                                                       \
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
