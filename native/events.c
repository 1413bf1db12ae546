// A convolution of spikes, fused with its neurons over all steps so that no sum reaches memory: the active inputs are
// listed, and only their weights, int8 or float32, are added up. With int8 weights it gives the same integers as dense.c.
#include "rows.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// ---- listing

// Append first + (bit << shift) for every bit that is set; returns how many there are.
INLINE int32_t list_bits(uint32_t bits, uint32_t first, int shift, uint32_t *keys)
{
    int32_t n = 0;
    for (; bits; bits &= bits - 1)
        keys[n++] = first + ((uint32_t)__builtin_ctz(bits) << shift);
    return n;
}

// Append first + (i << shift) for every byte in[i] > least, i < size, size a multiple of 4; returns how many there are.
INLINE int32_t list_above(const uint8_t *in, i64 size, uint32_t first, int shift, const uint8_t least, uint32_t *keys)
{
    int32_t n = 0;
    i64 i = 0;
#if defined(__AVX512F__)
    static const uint8_t ramp[64] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                     22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
                                     44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i iota = _mm512_loadu_si512(ramp);
    const __m128i by = _mm_cvtsi32_si128(shift);
    for (; i < size; i += 64) {
        const __mmask64 inside = size - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (size - i)) - 1;
        const __m512i bytes = _mm512_maskz_loadu_epi8(inside, in + i);
        const __mmask64 active = _mm512_cmpgt_epu8_mask(bytes, _mm512_set1_epi8((char)least));
        __m512i places = _mm512_maskz_compress_epi8(active, iota);
        const __m512i base = _mm512_set1_epi32((int)(first + ((uint32_t)i << shift)));
        const int32_t count = (int32_t)__builtin_popcountll(active);
        int32_t j = 0;
        do {
            const __m512i next = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(places));
            _mm512_storeu_si512(keys + n + j, _mm512_add_epi32(base, _mm512_sll_epi32(next, by)));
            places = _mm512_shuffle_i64x2(places, places, 0x39);
            j += 16;
        } while (j < count);
        n += count;
    }
#else
#if defined(__AVX2__)
    const __m256i above = _mm256_set1_epi8((char)least); // as signed bytes: none is above MAX_SPIKES
    for (; i + 32 <= size; i += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(in + i));
        n += list_bits((uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi8(bytes, above)), first + ((uint32_t)i << shift), shift,
                       keys + n);
    }
    for (; i + 16 <= size; i += 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(in + i));
        n += list_bits((uint32_t)_mm_movemask_epi8(_mm_cmpgt_epi8(bytes, _mm256_castsi256_si128(above))),
                       first + ((uint32_t)i << shift), shift, keys + n);
    }
#endif
    for (; i < size; i += 4) {
        uint32_t word;
        memcpy(&word, in + i, 4);
        if (!word)
            continue;
        for (i64 j = 0; j < 4; j++) {
            keys[n] = first + ((uint32_t)(i + j) << shift);
            n += in[i + j] > least;
        }
    }
#endif
    return n;
}

// The same for every byte as often as it says, up to `most`.
INLINE int32_t list_bytes(const uint8_t *in, i64 size, uint32_t first, int shift, int32_t most, uint32_t *keys)
{
    int32_t n = list_above(in, size, first, shift, 0, keys);
    for (int32_t k = 1; k < most; k++)
        n += list_above(in, size, first, shift, (uint8_t)k, keys + n);
    return n;
}

// Spikes in `size` bytes, a multiple of 4 and at most 255 of them.
INLINE int32_t count_short(const uint8_t *bytes, i64 size)
{
    uint32_t sums = 0;
    for (i64 i = 0; i < size; i += 4) {
        uint32_t four;
        memcpy(&four, bytes + i, 4);
        sums += four;
    }
    return (int32_t)(sums * 0x01010101u >> 24);
}

// With so few channels the bytes of a pixel's whole column of the kernel are brought together before they are listed.
#define FEW_CHANNELS 16
// Columns of so few bytes of 0 and 1 are not worth a look each: they are counted first, then the row is listed as one.
#define SHORT_COLUMN 32

// List the active inputs of every output row of sample `b`.
EXPORT void KERNEL(list)(const Layer *layer, i64 b, const Lists *lists)
{
    const Plane *in = layer->input;
    const i64 C = in->channels, wide = in->width + 2 * in->halo, capacity = list_capacity(layer), K = layer->kernel;
    const int shift = __builtin_ctzll((unsigned long long)event_bytes(layer));
    const int32_t most = layer->largest_input;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < layer->num_steps * layer->height; i++) {
        const i64 t = i / layer->height, y = i % layer->height, first = y * layer->stride - K / 2;
        uint32_t *keys = lists->keys + i * capacity;
        int32_t *offsets = lists->offsets + i * (wide + 1);
        int32_t n = 0;
        for (i64 x = 0; x < in->halo; x++)
            offsets[x] = 0;
        if (C <= FEW_CHANNELS) {
            // At the end of the row's own list, which the keys of the bytes read so far never reach.
            uint8_t *columns = (uint8_t *)(keys + capacity) - K * in->width * C;
            for (i64 ky = 0; ky < K; ky++) {
                const uint8_t *from = pixel(in, t * layer->batch + b, 0, 0) + (first + ky) * row_bytes(in);
                for (i64 x = 0; x < in->width; x++)
                    for (i64 c = 0; c < C; c += 4)
                        memcpy(columns + (x * K + ky) * C + c, from + x * C + c, 4);
            }
            const i64 size = K * C;
            const uint32_t key = (uint32_t)(in->halo * size) << shift;
            const int at_once = size <= SHORT_COLUMN && most == 1;
            for (i64 x = 0; x < in->width; x++) {
                const uint8_t *column = columns + x * size;
                offsets[in->halo + x] = n;
                n += at_once ? count_short(column, size)
                             : list_bytes(column, size, key + ((uint32_t)(x * size) << shift), shift, most, keys + n);
            }
            if (at_once)
                list_bytes(columns, in->width * size, key, shift, 1, keys);
        } else {
            const i64 from = first < 0 ? -first : 0, to = first + K > in->height ? in->height - first : K;
            for (i64 x = in->halo; x < in->halo + in->width; x++) {
                offsets[x] = n;
                const uint8_t *bytes = pixel(in, t * layer->batch + b, first + from, x - in->halo);
                for (i64 ky = from; ky < to; ky++, bytes += row_bytes(in))
                    n += list_bytes(bytes, C, (uint32_t)((x * K + ky) * C) << shift, shift, most, keys + n);
            }
        }
        for (i64 x = in->halo + in->width; x <= wide; x++)
            offsets[x] = n;
    }
}

// ---- adding up

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
    const Plane *in = layer->input;
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
        case WHOLE: return event_row(layer, lists, b, y, k, BLOCK, GATHER, FLOATS, WHOLE);                                \
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
