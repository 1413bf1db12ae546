// Planes of spikes: filling one from a voxel cube, pooling, joining two, listing the active inputs.
#include "spikes.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Copy a cube uint8 [N][C][H][W] into a plane; returns the number of nonzero values and writes the largest value.
EXPORT i64 KERNEL(fill)(const uint8_t *cube, i64 num_samples, i64 cube_channels, const Plane *plane, i64 *largest)
{
    const i64 H = plane->height, W = plane->width, C = plane->channels;
    i64 total = 0, most = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) reduction(max : most)
    for (i64 row = 0; row < num_samples * H; row++) {
        const i64 n = row / H, y = row % H;
        uint8_t *restrict out = pixel(plane, n, y, 0);
        for (i64 c = 0; c < cube_channels; c++) {
            const uint8_t *restrict in = cube + ((n * cube_channels + c) * H + y) * W;
            int32_t count = 0;
            uint8_t top = 0;
            for (i64 x = 0; x < W; x++) {
                count += in[x] != 0;
                top = in[x] > top ? in[x] : top;
            }
            total += count;
            most = top > most ? top : most;
        }
        if (cube_channels == 4 && C == 4) {
            const uint8_t *restrict in = cube + (n * 4 * H + y) * W;
            for (i64 x = 0; x < W; x++)
                for (i64 c = 0; c < 4; c++)
                    out[4 * x + c] = in[c * H * W + x];
        } else {
            for (i64 c = 0; c < cube_channels; c++)
                for (i64 x = 0; x < W; x++)
                    out[x * C + c] = cube[((n * cube_channels + c) * H + y) * W + x];
        }
    }
    *largest = most;
    return total;
}

INLINE i64 count_spikes(const uint8_t *bytes, i64 size)
{
    i64 total = 0, i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + i, 8);
        total += __builtin_popcountll(eight);
    }
    for (; i < size; i++)
        total += bytes[i];
    return total;
}

// Max-pooling 3x3 with stride 2 and padding 1, which over spikes is an OR. Returns the number of spikes.
EXPORT i64 KERNEL(or_pool)(const Plane *in, const Plane *out, i64 num_samples)
{
    const i64 C = in->channels, row = row_bytes(in);
    i64 total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (i64 i = 0; i < num_samples * out->height; i++) {
        const i64 n = i / out->height, y = i % out->height;
        const uint8_t *from = pixel(in, n, 2 * y - 1, -1);
        uint8_t *to = pixel(out, n, y, 0);
        for (i64 x = 0; x < out->width; x++) {
            const uint8_t *restrict a = from + 2 * x * C;
            uint8_t *restrict o = to + x * C;
            for (i64 c = 0; c < C; c++) {
                uint8_t any = 0;
                for (i64 k = 0; k < 3; k++)
                    any |= a[k * row + c] | a[k * row + C + c] | a[k * row + 2 * C + c];
                o[c] = any;
            }
        }
        total += count_spikes(to, out->width * C);
    }
    return total;
}

// Join a coarse plane, every pixel twice in both directions and cropped, and a skip's plane along the channels. Returns the
// number of spikes.
EXPORT i64 KERNEL(join)(const Plane *coarse, const Plane *skip, const Plane *out, i64 num_samples)
{
    const i64 C = out->channels, a = coarse->channels, b = skip->channels;
    i64 total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (i64 i = 0; i < num_samples * out->height; i++) {
        const i64 n = i / out->height, y = i % out->height;
        const uint8_t *up = pixel(coarse, n, y / 2, 0), *same = pixel(skip, n, y, 0);
        uint8_t *to = pixel(out, n, y, 0);
        for (i64 x = 0; x < out->width; x++) {
            memcpy(to + x * C, up + x / 2 * a, (size_t)a);
            memcpy(to + x * C + a, same + x * b, (size_t)b);
        }
        total += count_spikes(to, out->width * C);
    }
    return total;
}

// Append first + (i << shift) for every nonzero byte in[i], i < size, size a multiple of 4; returns how many there are.
INLINE int32_t list_bytes(const uint8_t *in, i64 size, uint32_t first, int shift, uint32_t *keys)
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
        const __mmask64 active = _mm512_test_epi8_mask(bytes, bytes);
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
    for (; i < size; i += 4) {
        uint32_t word;
        memcpy(&word, in + i, 4);
        if (!word)
            continue;
        for (i64 j = 0; j < 4; j++) {
            keys[n] = first + ((uint32_t)(i + j) << shift);
            n += in[i + j] != 0;
        }
    }
#endif
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
// Columns of so few bytes are not worth a look each: they are counted first, then the row is listed as one.
#define SHORT_COLUMN 32

// List the active inputs of every output row of sample `b`.
EXPORT void KERNEL(list)(const Layer *layer, i64 b, const Lists *lists)
{
    const Plane *in = layer->in;
    const i64 C = in->channels, wide = in->width + 2 * in->halo, capacity = list_capacity(layer), K = layer->kernel;
    const int shift = __builtin_ctzll((unsigned long long)event_bytes(layer));
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
            for (i64 x = 0; x < in->width; x++) {
                const uint8_t *column = columns + x * size;
                offsets[in->halo + x] = n;
                n += size <= SHORT_COLUMN ? count_short(column, size)
                                          : list_bytes(column, size, key + ((uint32_t)(x * size) << shift), shift, keys + n);
            }
            if (size <= SHORT_COLUMN)
                list_bytes(columns, in->width * size, key, shift, keys);
        } else {
            const i64 from = first < 0 ? -first : 0, to = first + K > in->height ? in->height - first : K;
            for (i64 x = in->halo; x < in->halo + in->width; x++) {
                offsets[x] = n;
                const uint8_t *bytes = pixel(in, t * layer->batch + b, first + from, x - in->halo);
                for (i64 ky = from; ky < to; ky++, bytes += row_bytes(in))
                    n += list_bytes(bytes, C, (uint32_t)((x * K + ky) * C) << shift, shift, keys + n);
            }
        }
        for (i64 x = in->halo + in->width; x <= wide; x++)
            offsets[x] = n;
    }
}
