// Convolutions of spikes with int8 weights, each fused with its neurons over all steps: no sum reaches memory.
//
// Dense: every input byte times every weight. Event-driven: only the weights of active inputs are added up. Both give the
// same integers.
#include "rows.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// ---- dense

// sums[g][block] for the input windows in[0..columns), each `rows` pieces of `run` bytes that lie `pitch` bytes apart.
#if defined(__AVX512F__)
INLINE void dense_group(const uint8_t *const *in, const int columns, i64 rows, i64 run, i64 pitch, const int8_t *weights,
                        int32_t *sums, const int vectors)
{
    __m512i sum[GROUP][4];
    for (int g = 0; g < columns; g++)
        for (int v = 0; v < vectors; v++)
            sum[g][v] = _mm512_setzero_si512();
    for (i64 r = 0; r < rows; r++)
        for (i64 i = r * pitch; i < r * pitch + run; i += 4, weights += 64 * vectors) {
            __m512i w[4];
            for (int v = 0; v < vectors; v++)
                w[v] = _mm512_loadu_si512(weights + 64 * v);
            for (int g = 0; g < columns; g++) {
                int32_t four;
                memcpy(&four, in[g] + i, 4);
                const __m512i x = _mm512_set1_epi32(four);
                for (int v = 0; v < vectors; v++)
                    sum[g][v] = _mm512_dpbusd_epi32(sum[g][v], x, w[v]);
            }
        }
    for (int g = 0; g < columns; g++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_si512(sums + (g * vectors + v) * 16, sum[g][v]);
}
#elif defined(__AVX2__)
// Spikes are 0 or 1: a pair of products fits 16 bits, and so do 64 of them.
INLINE void dense_group(const uint8_t *const *in, const int columns, i64 rows, i64 run, i64 pitch, const int8_t *weights,
                        int32_t *sums, const int vectors)
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (int v = 0; v < vectors; v++) {
        __m256i sum[GROUP][2];
        for (int g = 0; g < columns; g++)
            sum[g][0] = sum[g][1] = _mm256_setzero_si256();
        for (i64 r = 0; r < rows; r++)
            for (i64 first = 0; first < run; first += 256) {
                const i64 last = first + 256 < run ? first + 256 : run;
                __m256i pairs[GROUP][2];
                for (int g = 0; g < columns; g++)
                    pairs[g][0] = pairs[g][1] = _mm256_setzero_si256();
                for (i64 i = first; i < last; i += 4) {
                    const int8_t *w = weights + ((r * run + i) / 4 * vectors + v) * 64;
                    const __m256i low = _mm256_loadu_si256((const __m256i *)w);
                    const __m256i high = _mm256_loadu_si256((const __m256i *)(w + 32));
                    for (int g = 0; g < columns; g++) {
                        int32_t four;
                        memcpy(&four, in[g] + r * pitch + i, 4);
                        const __m256i x = _mm256_set1_epi32(four);
                        pairs[g][0] = _mm256_add_epi16(pairs[g][0], _mm256_maddubs_epi16(x, low));
                        pairs[g][1] = _mm256_add_epi16(pairs[g][1], _mm256_maddubs_epi16(x, high));
                    }
                }
                for (int g = 0; g < columns; g++)
                    for (int h = 0; h < 2; h++)
                        sum[g][h] = _mm256_add_epi32(sum[g][h], _mm256_madd_epi16(pairs[g][h], ones));
            }
        for (int g = 0; g < columns; g++)
            for (int h = 0; h < 2; h++)
                _mm256_storeu_si256((__m256i *)(sums + (g * vectors + v) * 16 + 8 * h), sum[g][h]);
    }
}
#else
INLINE void dense_group(const uint8_t *const *in, const int columns, i64 rows, i64 run, i64 pitch, const int8_t *weights,
                        int32_t *sums, const int vectors)
{
    const int block = 16 * vectors;
    memset(sums, 0, (size_t)(columns * block) * sizeof *sums);
    for (i64 r = 0; r < rows; r++)
        for (i64 i = 0; i < run; i += 4, weights += 4 * block)
            for (int g = 0; g < columns; g++)
                for (int j = 0; j < 4; j++)
                    if (in[g][r * pitch + i + j])
                        for (int k = 0; k < block; k++)
                            sums[g * block + k] += weights[4 * k + j];
}
#endif

INLINE void dense_columns(const uint8_t *const *in, i64 columns, const Layer *layer, const int8_t *weights, int32_t *sums,
                          const int vectors)
{
    const i64 rows = layer->kernel, run = layer->kernel * layer->in->channels, pitch = row_bytes(layer->in);
    i64 c = 0;
    for (; c + GROUP <= columns; c += GROUP)
        dense_group(in + c, GROUP, rows, run, pitch, weights, sums + c * 16 * vectors, vectors);
    for (; c + 2 <= columns; c += 2)
        dense_group(in + c, 2, rows, run, pitch, weights, sums + c * 16 * vectors, vectors);
    if (c < columns)
        dense_group(in + c, 1, rows, run, pitch, weights, sums + c * 16 * vectors, vectors);
}

INLINE void dense_sums(const void *weights, const Layer *layer, const Stretch *at, i64 k, void *sums, const int vectors)
{
    const i64 K = layer->kernel, S = layer->stride;
    const uint8_t *in[MAX_COLUMNS];
    for (i64 j = 0; j < at->size; j++)
        for (i64 t = 0; t < at->steps; t++)
            in[j * at->steps + t] =
                pixel(layer->in, (at->start + t) * layer->batch + at->b, at->y * S - K / 2, (at->first + j) * S - K / 2);
    dense_columns(in, at->size * at->steps, layer, (const int8_t *)weights + k * K * K * layer->in->channels, sums, vectors);
}

DEFINE_FIRE_ROWS(fire_dense, dense_sums, 0)

// Returns the number of spikes.
EXPORT i64 KERNEL(dense)(const Layer *layer)
{
    return fire_dense(layer, layer->dense_weights);
}

// ---- event-driven

#define MAX_EVENT_BLOCK 128

// Adds up the `block` weights of every input; `keys` are bytes from `weights` on.
typedef void (*Gather)(const uint32_t *keys, i64 count, const char *weights, Sum *sums, const int block);

// The 2 n weights of one input sit in n lanes of 16 bits, two in each: the high byte is a signed weight h, the low byte a
// weight l plus 128. Adding whole lanes gives 256 sum(h) + sum(l + 128) modulo 2^16, adding the lanes' high bytes gives
// sum(h): three additions and shifts for two weights of 8 bits, and both sums come back exact as long as neither leaves
// 16 bits, that is for 255 inputs.
#define MAX_ADDENDS 255

INLINE void put(VecS values, Sum *to, const int more) { *to = widen(values) + (more ? *to : (Sum){0}); }

// From a part of a unit, whose low weights' sums begin at `to`.
#if defined(__AVX512F__)
#define SPREAD_16(LOW, TOP, TO, MORE) put((VecS)_mm256_set_m128i((__m128i)TOP, (__m128i)LOW), TO, MORE)
#define SPREAD_32(LOW, TOP, TO, MORE) (put((VecS)LOW, TO, MORE), put((VecS)TOP, TO + 1, MORE))
#define SPREAD_64(LOW, TOP, TO, MORE)                                                                                     \
    (put((VecS)_mm512_castsi512_si256((__m512i)LOW), TO, MORE),                                                           \
     put((VecS)_mm512_extracti64x4_epi64((__m512i)LOW, 1), TO + 1, MORE),                                                 \
     put((VecS)_mm512_castsi512_si256((__m512i)TOP), TO + 2, MORE),                                                       \
     put((VecS)_mm512_extracti64x4_epi64((__m512i)TOP, 1), TO + 3, MORE))
#else
#define SPREAD(LOW, TOP, TO, MORE, HALF)                                                                                  \
    for (unsigned long i = 0; i < sizeof LOW / sizeof(VecS); i++) {                                                       \
        VecS pair[2];                                                                                                     \
        memcpy(&pair[0], (const char *)&LOW + i * sizeof(VecS), sizeof(VecS));                                            \
        memcpy(&pair[1], (const char *)&TOP + i * sizeof(VecS), sizeof(VecS));                                            \
        put(pair[0], TO + i, MORE);                                                                                       \
        put(pair[1], TO + HALF / LANES + i, MORE);                                                                        \
    }
#define SPREAD_16(LOW, TOP, TO, MORE) SPREAD(LOW, TOP, TO, MORE, 8)
#define SPREAD_32(LOW, TOP, TO, MORE) SPREAD(LOW, TOP, TO, MORE, 16)
#define SPREAD_64(LOW, TOP, TO, MORE) SPREAD(LOW, TOP, TO, MORE, 32)
#endif

// Up to two units are a block.
#define DEFINE_GATHER_BYTES(UNIT)                                                                                         \
    enum { PART_##UNIT = UNIT < WIDEST ? UNIT : WIDEST };                                                                 \
    typedef uint16_t Part_##UNIT __attribute__((vector_size(PART_##UNIT)));                                               \
    typedef int16_t Signed_##UNIT __attribute__((vector_size(PART_##UNIT)));                                              \
    typedef uint16_t Loose_##UNIT __attribute__((vector_size(PART_##UNIT), aligned(1), may_alias));                       \
    INLINE void add_bytes_##UNIT(const uint32_t *keys, i64 size, const char *weights, Sum *sums, const int block,         \
                                 const int more)                                                                          \
    {                                                                                                                     \
        enum { PART = PART_##UNIT };                                                                                      \
        Part_##UNIT both[2 * UNIT / PART], high[2 * UNIT / PART];                                                         \
        for (int p = 0; p < block / PART; p++)                                                                            \
            both[p] = high[p] = (Part_##UNIT){0};                                                                         \
        for (const uint32_t *key = keys; key < keys + size; key++)                                                        \
            for (int p = 0; p < block / PART; p++) {                                                                      \
                const Part_##UNIT w = *(const Loose_##UNIT *)(weights + *key + p * PART);                                 \
                both[p] += w;                                                                                             \
                high[p] += (Part_##UNIT)((Signed_##UNIT)w >> 8);                                                          \
            }                                                                                                             \
        for (int p = 0; p < block / PART; p++) {                                                                          \
            const Part_##UNIT low = both[p] - (high[p] << 8) - (uint16_t)(128 * size), top = high[p];                     \
            Sum *to = sums + (p * PART / UNIT * UNIT + p * PART % UNIT / 2) / LANES;                                      \
            SPREAD_##UNIT(low, top, to, more);                                                                            \
        }                                                                                                                 \
    }                                                                                                                     \
    INLINE void gather_bytes_##UNIT(const uint32_t *keys, i64 count, const char *weights, Sum *sums, const int block)     \
    {                                                                                                                     \
        i64 size = count < MAX_ADDENDS ? count : MAX_ADDENDS;                                                             \
        add_bytes_##UNIT(keys, size, weights, sums, block, 0);                                                            \
        for (i64 done = size; done < count; done += size) {                                                               \
            size = count - done < MAX_ADDENDS ? count - done : MAX_ADDENDS;                                               \
            add_bytes_##UNIT(keys + done, size, weights, sums, block, 1);                                                 \
        }                                                                                                                 \
    }

DEFINE_GATHER_BYTES(16)
DEFINE_GATHER_BYTES(32)
DEFINE_GATHER_BYTES(64)

// Every sum adds its weights in the order of the keys, whatever the registers hold: rounding is the same everywhere.
INLINE void gather_floats(const uint32_t *keys, i64 count, const char *weights, Sum *sums, const int block)
{
    VecF sum[MAX_EVENT_BLOCK / LANES];
    for (int p = 0; p < block / LANES; p++)
        sum[p] = (VecF){0};
    for (const uint32_t *key = keys; key < keys + count; key++)
        for (int p = 0; p < block / LANES; p++)
            sum[p] += load_f((const float *)(weights + *key) + p * LANES);
    for (int p = 0; p < block / LANES; p++)
        sums[p] = (Sum)sum[p];
}

INLINE i64 event_row(const Layer *shared, const Lists *lists, i64 b, i64 y, i64 k, const int block, Gather gather,
                     const int floats, const int kind)
{
    const Layer own = layer_for(shared, floats), *layer = &own;
    const Plane *in = layer->in;
    const i64 K = layer->kernel, S = layer->stride, T = layer->num_steps, wide = in->width + 2 * in->halo;
    const i64 capacity = list_capacity(layer), column = K * in->channels * block * (floats ? 4 : 1);
    const char *weights = (const char *)layer->event_weights + k / block * K * column;
    const uint32_t *keys = lists->keys + y * capacity;
    const int32_t *offsets = lists->offsets + y * (wide + 1);
    Row row = row_of(layer, b, y, k, block);
    for (i64 x = 0; x < layer->width; x++) {
        const i64 left = x * S - K / 2 + in->halo;
        const char *base = (const char *)((uintptr_t)weights - (uintptr_t)(left * column));
        VecF membranes[MAX_EVENT_BLOCK / LANES];
        Sum sums[MAX_EVENT_BLOCK / LANES];
        begin(&row, x, membranes);
        for (i64 t = 0; t < T; t++) {
            const int32_t *at = offsets + t * layer->height * (wide + 1) + left;
            gather(keys + t * layer->height * capacity + at[0], at[K] - at[0], base, sums, block);
            fire_pixel(&row, sums, membranes, t, x, kind);
        }
        end(&row, x, membranes);
    }
    return fired(&row);
}

#define DEFINE_EVENT_ROW(NAME, BLOCK, GATHER, FLOATS)                                                                     \
    static i64 NAME(const Layer *layer, const Lists *lists, i64 b, i64 y, i64 k)                                          \
    {                                                                                                                     \
        switch (kind_of(layer, k, BLOCK)) {                                                                               \
        case SPIKES: return event_row(layer, lists, b, y, k, BLOCK, GATHER, FLOATS, SPIKES);                              \
        case COUNTS: return event_row(layer, lists, b, y, k, BLOCK, GATHER, FLOATS, COUNTS);                              \
        default: return event_row(layer, lists, b, y, k, BLOCK, GATHER, FLOATS, ANYTHING);                                \
        }                                                                                                                 \
    }

DEFINE_EVENT_ROW(bytes_16, 16, gather_bytes_16, 0)
DEFINE_EVENT_ROW(bytes_32, 32, gather_bytes_32, 0)
DEFINE_EVENT_ROW(bytes_64, 64, gather_bytes_64, 0)
DEFINE_EVENT_ROW(bytes_128, 128, gather_bytes_64, 0)
DEFINE_EVENT_ROW(floats_16, 16, gather_floats, 1)
DEFINE_EVENT_ROW(floats_32, 32, gather_floats, 1)
DEFINE_EVENT_ROW(floats_64, 64, gather_floats, 1)

// Sample `b`; returns the number of spikes.
EXPORT i64 KERNEL(events)(const Layer *layer, i64 b, const Lists *lists)
{
    const i64 block = layer->event_block, blocks = layer->padded_channels / block;
    i64 total = 0;
#pragma omp parallel for schedule(dynamic, 1) reduction(+ : total)
    for (i64 i = 0; i < blocks * layer->height; i++) {
        const i64 k = i / layer->height * block, y = i % layer->height;
        if (layer->floats)
            total += (block == 64 ? floats_64 : block == 32 ? floats_32 : floats_16)(layer, lists, b, y, k);
        else
            total += (block == 128  ? bytes_128
                      : block == 64 ? bytes_64
                      : block == 32 ? bytes_32
                                    : bytes_16)(layer, lists, b, y, k);
    }
    return total;
}
