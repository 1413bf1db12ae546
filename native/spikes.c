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
        int32_t count = 0;
        for (i64 k = 0; k < out->width * C; k++)
            count += to[k];
        total += count;
    }
    return total;
}

// Append first + i * factor for every nonzero byte in[i], i < size, size a multiple of 4; returns how many there are.
INLINE int32_t list_bytes(const uint8_t *in, i64 size, uint32_t first, uint32_t factor, uint32_t *keys)
{
    int32_t n = 0;
    i64 i = 0;
#if defined(__AVX512F__)
    const __m512i iota = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i ramp = _mm512_mullo_epi32(iota, _mm512_set1_epi32((int)factor));
    for (; i < size; i += 64) {
        const __mmask64 inside = size - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (size - i)) - 1;
        const __m512i bytes = _mm512_maskz_loadu_epi8(inside, in + i);
        uint64_t active = _mm512_test_epi8_mask(bytes, bytes);
        for (uint32_t base = first + (uint32_t)i * factor; active; active >>= 16, base += 16 * factor) {
            const __mmask16 some = (__mmask16)active;
            const __m512i key = _mm512_add_epi32(ramp, _mm512_set1_epi32((int)base));
            _mm512_storeu_si512(keys + n, _mm512_maskz_compress_epi32(some, key));
            n += __builtin_popcount(some);
        }
    }
#else
    for (; i < size; i += 4) {
        uint32_t word;
        memcpy(&word, in + i, 4);
        if (!word)
            continue;
        for (i64 j = 0; j < 4; j++) {
            keys[n] = first + (uint32_t)(i + j) * factor;
            n += in[i + j] != 0;
        }
    }
#endif
    return n;
}

// List the active inputs of every output row of sample `b`.
EXPORT void KERNEL(list)(const Layer *layer, i64 b, const Lists *lists)
{
    const Plane *in = layer->in;
    const i64 C = in->channels, wide = in->width + 2 * in->halo, capacity = list_capacity(layer), K = layer->kernel;
    const uint32_t factor = (uint32_t)layer->event_block;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < layer->num_steps * layer->height; i++) {
        const i64 t = i / layer->height, y = i % layer->height, first = y * layer->stride - K / 2;
        const i64 from = first < 0 ? -first : 0, to = first + K > in->height ? in->height - first : K;
        uint32_t *keys = lists->keys + i * capacity;
        int32_t *offsets = lists->offsets + i * (wide + 1);
        int32_t n = 0;
        for (i64 x = 0; x < in->halo; x++)
            offsets[x] = 0;
        const uint8_t *column = pixel(in, t * layer->batch + b, first + from, 0);
        for (i64 x = in->halo; x < in->halo + in->width; x++, column += C) {
            offsets[x] = n;
            const uint8_t *bytes = column;
            for (i64 ky = from; ky < to; ky++, bytes += row_bytes(in))
                n += list_bytes(bytes, C, (uint32_t)((x * K + ky) * C) * factor, factor, keys + n);
        }
        for (i64 x = in->halo + in->width; x <= wide; x++)
            offsets[x] = n;
    }
}
