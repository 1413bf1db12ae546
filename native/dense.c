// A convolution of spikes with int8 weights, fused with its neurons over all steps so that no sum reaches memory: every
// input byte times every weight. Gives the same integers as events.c.
#include "rows.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// sums[g][block] for the input windows in[0..columns), each `rows` pieces of `run` bytes that lie `pitch` bytes apart.
#if defined(__AVX512F__)
INLINE void dense_group(const uint8_t *const *in, const int columns, i64 rows, i64 run, i64 pitch, const int8_t *weights,
                        int32_t *sums, const int vectors, i64 most)
{
    (void)most;
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
// The sum of a pair of products of up to 2 spikes fits 16 bits, and so do 64 of them; of more spikes so many fewer.
INLINE void dense_group(const uint8_t *const *in, const int columns, i64 rows, i64 run, i64 pitch, const int8_t *weights,
                        int32_t *sums, const int vectors, i64 most)
{
    const i64 piece = most > 2 ? 4 * (128 / most) : 256;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int v = 0; v < vectors; v++) {
        __m256i sum[GROUP][2];
        for (int g = 0; g < columns; g++)
            sum[g][0] = sum[g][1] = _mm256_setzero_si256();
        for (i64 r = 0; r < rows; r++)
            for (i64 first = 0; first < run; first += piece) {
                const i64 last = first + piece < run ? first + piece : run;
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
                        int32_t *sums, const int vectors, i64 most)
{
    (void)most;
    const int block = 16 * vectors;
    memset(sums, 0, (size_t)(columns * block) * sizeof *sums);
    for (i64 r = 0; r < rows; r++)
        for (i64 i = 0; i < run; i += 4, weights += 4 * block)
            for (int g = 0; g < columns; g++)
                for (int j = 0; j < 4; j++)
                    if (in[g][r * pitch + i + j])
                        for (int k = 0; k < block; k++)
                            sums[g * block + k] += in[g][r * pitch + i + j] * weights[4 * k + j];
}
#endif

INLINE void dense_columns(const uint8_t *const *in, i64 columns, const Layer *layer, const int8_t *weights, int32_t *sums,
                          const int vectors)
{
    const i64 rows = layer->kernel, run = layer->kernel * layer->input->channels, pitch = row_bytes(layer->input);
    const i64 most = layer->largest_input;
    i64 c = 0;
    for (; c + GROUP <= columns; c += GROUP)
        dense_group(in + c, GROUP, rows, run, pitch, weights, sums + c * 16 * vectors, vectors, most);
    for (; c + 2 <= columns; c += 2)
        dense_group(in + c, 2, rows, run, pitch, weights, sums + c * 16 * vectors, vectors, most);
    if (c < columns)
        dense_group(in + c, 1, rows, run, pitch, weights, sums + c * 16 * vectors, vectors, most);
}

INLINE void dense_sums(const void *weights, const Layer *layer, const Stretch *at, i64 k, void *sums, const int vectors)
{
    const i64 K = layer->kernel, S = layer->stride;
    const uint8_t *in[MAX_COLUMNS];
    for (i64 j = 0; j < at->size; j++)
        for (i64 t = 0; t < at->steps; t++)
            in[j * at->steps + t] =
                pixel(layer->input, (at->start + t) * layer->batch + at->b, at->y * S - K / 2, (at->first + j) * S - K / 2);
    dense_columns(in, at->size * at->steps, layer, (const int8_t *)weights + k * K * K * layer->input->channels, sums, vectors);
}

DEFINE_FIRE_ROWS(fire_dense, dense_sums, 0)

// Returns the number of spikes.
EXPORT i64 KERNEL(dense)(const Layer *layer)
{
    return fire_dense(layer, layer->dense_weights);
}
