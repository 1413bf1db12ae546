// Planes of spikes: filling one from a voxel cube, pooling, listing the active inputs.
#include "spikes.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Copy a cube uint8 [N][C][H][W] into the inside of a plane; writes how many values are not zero and the largest.
EXPORT void KERNEL(fill)(const uint8_t *cube, i64 num_samples, i64 cube_channels, const Plane *plane, i64 *nonzero,
                         i64 *largest)
{
    const i64 H = plane->height, W = plane->width, C = plane->channels;
    i64 total = 0, most = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) reduction(max : most)
    for (i64 row = 0; row < num_samples * H; row++) {
        const i64 n = row / H, y = row % H;
        uint8_t *out = plane->bytes + n * sample_bytes(plane) + (y + plane->halo) * row_bytes(plane) + plane->halo * C;
        for (i64 c = 0; c < cube_channels; c++) {
            const uint8_t *in = cube + ((n * cube_channels + c) * H + y) * W;
            i64 count = 0;
            uint8_t top = 0;
            for (i64 x = 0; x < W; x++) {
                out[x * C + c] = in[x];
                count += in[x] != 0;
                top = in[x] > top ? in[x] : top;
            }
            total += count;
            most = top > most ? top : most;
        }
    }
    *nonzero = total;
    *largest = most;
}

// Max-pooling 3x3 with stride 2 and padding 1, which over spikes is an OR. Returns the number of spikes.
EXPORT i64 KERNEL(or_pool)(const Plane *in, const Plane *out, i64 num_samples)
{
    const i64 C = in->channels, row = row_bytes(in);
    i64 total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (i64 i = 0; i < num_samples * out->height; i++) {
        const i64 n = i / out->height, y = i % out->height;
        const uint8_t *from = in->bytes + n * sample_bytes(in) + (2 * y + in->halo - 1) * row + (in->halo - 1) * C;
        uint8_t *to = out->bytes + n * sample_bytes(out) + (y + out->halo) * row_bytes(out) + out->halo * C;
        for (i64 x = 0; x < out->width; x++) {
            const uint8_t *restrict a = from + 2 * x * C;
            uint8_t *restrict o = to + x * C;
            int32_t count = 0;
            for (i64 c = 0; c < C; c++) {
                uint8_t any = 0;
                for (i64 k = 0; k < 3; k++)
                    any |= a[k * row + c] | a[k * row + C + c] | a[k * row + 2 * C + c];
                o[c] = any;
                count += any;
            }
            total += count;
        }
    }
    return total;
}

// Append the keys of the nonzero bytes of in[0..size) to keys; returns how many there are.
INLINE int32_t list_bytes(const uint8_t *in, i64 size, uint32_t first_key, uint32_t *keys)
{
    int32_t n = 0;
    i64 i = 0;
#if defined(__AVX512F__)
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (; i < size; i += 16) {
        const __mmask16 inside = size - i >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << (size - i)) - 1);
        const __m128i bytes = _mm_maskz_loadu_epi8(inside, in + i);
        const __mmask16 active = _mm_test_epi8_mask(bytes, bytes);
        if (!active)
            continue;
        const __m512i key = _mm512_add_epi32(iota, _mm512_set1_epi32((int)(first_key + (uint32_t)i)));
        _mm512_storeu_si512(keys + n, _mm512_maskz_compress_epi32(active, key));
        n += __builtin_popcount(active);
    }
#else
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, in + i, 8);
        if (!word)
            continue;
        for (i64 j = 0; j < 8; j++) {
            keys[n] = first_key + (uint32_t)(i + j);
            n += in[i + j] != 0;
        }
    }
    for (; i < size; i++) {
        keys[n] = first_key + (uint32_t)i;
        n += in[i] != 0;
    }
#endif
    return n;
}

// List the active inputs of every row.
EXPORT void KERNEL(list)(const Plane *plane, i64 num_samples, const Lists *lists)
{
    const i64 C = plane->channels, halo = plane->halo, wide = plane->width + 2 * halo, tall = plane->height + 2 * halo;
    const i64 capacity = row_bytes(plane) + LIST_SLACK;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < num_samples * plane->height; i++) {
        const i64 row = i / plane->height * tall + i % plane->height + halo;
        const uint8_t *in = plane->bytes + row * row_bytes(plane);
        uint32_t *keys = lists->keys + row * capacity;
        int32_t *offsets = lists->offsets + row * (wide + 1);
        int32_t n = 0;
        for (i64 x = 0; x < wide; x++) {
            offsets[x] = n;
            n += list_bytes(in + x * C, C, (uint32_t)(x * C), keys + n);
        }
        offsets[wide] = n;
    }
}
