// Neurons behind a convolution that somebody else has computed.
#include "rows.h"

// Sums [T * B][H][W][channels], float32 or bfloat16.
typedef struct {
    const void *values;
    i64 channels;
} Currents;

INLINE void read_float32(const void *from, i64 size, uint32_t *to) { memcpy(to, from, (size_t)size * sizeof *to); }

INLINE void read_bfloat16(const void *from, i64 size, uint32_t *to)
{
    const uint16_t *values = from;
    for (i64 i = 0; i < size; i++)
        to[i] = (uint32_t)values[i] << 16;
}

#define DEFINE_FIRE(TYPE, BYTES)                                                                                          \
    INLINE void sums_##TYPE(const void *context, const Layer *layer, const Stretch *at, i64 k, void *sums,                \
                            const int vectors)                                                                            \
    {                                                                                                                     \
        const Currents *from = context;                                                                                   \
        const i64 block = 16 * vectors, room = from->channels - k;                                                        \
        uint32_t *to = sums;                                                                                              \
        for (i64 j = 0; j < at->size; j++)                                                                                \
            for (i64 t = 0; t < at->steps; t++, to += block) {                                                            \
                const i64 row = ((at->start + t) * layer->batch + at->b) * layer->height + at->y;                         \
                const i64 place = row * layer->width + at->first + j;                                                     \
                const char *values = (const char *)from->values + (place * from->channels + k) * BYTES;                   \
                if (room < block)                                                                                         \
                    memset(to, 0, (size_t)block * sizeof *to);                                                            \
                read_##TYPE(values, room < block ? room : block, to);                                                     \
            }                                                                                                             \
    }                                                                                                                     \
    DEFINE_FIRE_ROWS(fire_rows_##TYPE, sums_##TYPE, 1)                                                                    \
    EXPORT i64 KERNEL(fire_##TYPE)(const Layer *layer, const void *values, i64 channels)                                  \
    {                                                                                                                     \
        const Currents currents = {values, channels};                                                                     \
        return fire_rows_##TYPE(layer, &currents);                                                                        \
    }

DEFINE_FIRE(float32, 4)
DEFINE_FIRE(bfloat16, 2)
