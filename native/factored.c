// Decoder blocks in their three convolutions (1x1, 3x3 depthwise, 1x1), none of which has neurons but the last. Merged into
// one they would multiply many times as often. Everything up to the neurons' current is integers, rounded where noted, so
// that every instruction set and number of threads gives the same.
#include "factored.h"
#include "rows.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// ---- 1x1 over spikes: add up the weights of active inputs

#define CHUNK 1024
#define MAX_ADDENDS 255

typedef int16_t Vec16 __attribute__((vector_size(64)));
typedef int8_t Vec8U __attribute__((vector_size(32), aligned(1), may_alias));

// Every input as often as it spikes.
INLINE i64 active_inputs(const uint8_t *in, i64 size, int32_t *list)
{
    i64 n = 0;
    for (i64 c = 0; c < size; c += 4) {
        uint32_t four;
        memcpy(&four, in + c, 4);
        for (; four; four -= 1u << (__builtin_ctz(four) & ~7))
            list[n++] = (int32_t)(c + __builtin_ctz(four) / 8);
    }
    return n;
}

INLINE void add_weights(const uint8_t *in, i64 channels, const int8_t *weights, i64 hidden, int32_t *sums)
{
    int32_t list[CHUNK * MAX_SPIKES];
    for (i64 first = 0; first < channels; first += CHUNK) {
        const i64 n = active_inputs(in + first, channels - first < CHUNK ? channels - first : CHUNK, list);
        for (i64 start = 0; start < n; start += MAX_ADDENDS) {
            const i64 stop = n - start < MAX_ADDENDS ? n : start + MAX_ADDENDS;
            for (i64 m = 0; m < hidden; m += 32) {
                Vec16 sum = {0};
                for (i64 i = start; i < stop; i++)
                    sum += __builtin_convertvector(*(const Vec8U *)(weights + (first + list[i]) * hidden + m), Vec16);
                for (int j = 0; j < 32; j++)
                    sums[m + j] += sum[j];
            }
        }
    }
}

static void expand_coarse(const Factored *f)
{
    const Plane *in = f->coarse;
    const i64 num = f->layer->num_steps * f->layer->batch;
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < num * in->height; row++)
        for (i64 x = 0; x < in->width; x++) {
            int32_t *sums = f->coarse_sums + (row * in->width + x) * f->hidden;
            memcpy(sums, f->expand_bias, (size_t)f->hidden * sizeof *sums);
            add_weights(pixel(in, row / in->height, row % in->height, x), in->channels, f->expand_coarse, f->hidden, sums);
        }
}

INLINE void shift_down(const int32_t *sums, const int32_t *shift, i64 size, int16_t *out)
{
    for (i64 m = 0; m < size; m++)
        out[m] = (int16_t)(sums[m] >> shift[m]);
}

// Around the frame the spikes are zero, and the bias alone remains.
static void expand(const Factored *f)
{
    const Layer *l = f->layer;
    const i64 H = l->height, W = l->width, hidden = f->hidden;
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < l->num_steps * l->batch * (H + 2); row++) {
        const i64 n = row / (H + 2), y = row % (H + 2) - 1;
        int32_t sums[hidden];
        for (i64 x = -1; x <= W; x++) {
            if (y < 0 || y == H || x < 0 || x == W)
                memcpy(sums, f->expand_bias, sizeof sums);
            else {
                const i64 at = (n * f->coarse->height + y / 2) * f->coarse->width + x / 2;
                memcpy(sums, f->coarse_sums + at * hidden, sizeof sums);
                add_weights(pixel(f->skip, n, y, x), f->skip->channels, f->expand_skip, hidden, sums);
            }
            shift_down(sums, f->expand_shift, hidden, f->expanded + (row * (W + 2) + x + 1) * hidden);
        }
    }
}

static void filter(const Factored *f)
{
    const Layer *l = f->layer;
    const i64 H = l->height, W = l->width, hidden = f->hidden;
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < l->num_steps * l->batch * H; row++)
        for (i64 m = 0; m < hidden; m += LANES) {
            const int16_t *in = f->expanded + (row / H * (H + 2) + row % H) * (W + 2) * hidden + m;
            const VecI bias = load_i(f->filter_bias + m), shift = load_i(f->filter_shift + m);
            VecI weights[9];
            for (int k = 0; k < 9; k++)
                weights[k] = widen(*(const VecSU *)(f->filter + k * hidden + m));
            for (i64 x = 0; x < W; x++, in += hidden) {
                VecI sum = bias;
#pragma GCC unroll 9
                for (int k = 0; k < 9; k++)
                    sum += widen(*(const VecSU *)(in + (k / 3 * (W + 2) + k % 3) * hidden)) * weights[k];
                *(VecSU *)(f->filtered + (row * W + x) * hidden + m) = __builtin_convertvector(sum >> shift, VecS);
            }
        }
}

// ---- 1x1 over the filtered values

// sums[g][block] of `columns` pixels.
INLINE void project_group(const int16_t *const *in, const int columns, i64 pairs, const int16_t *weights, int32_t *sums,
                          const int vectors)
{
#if defined(__AVX512F__)
    __m512i sum[GROUP][4];
    for (int g = 0; g < columns; g++)
        for (int v = 0; v < vectors; v++)
            sum[g][v] = _mm512_setzero_si512();
    for (i64 i = 0; i < pairs; i++, weights += 32 * vectors) {
        __m512i w[4];
        for (int v = 0; v < vectors; v++)
            w[v] = _mm512_loadu_si512(weights + 32 * v);
        for (int g = 0; g < columns; g++) {
            int32_t two;
            memcpy(&two, in[g] + 2 * i, 4);
            for (int v = 0; v < vectors; v++)
                sum[g][v] = _mm512_dpwssd_epi32(sum[g][v], _mm512_set1_epi32(two), w[v]);
        }
    }
    for (int g = 0; g < columns; g++)
        for (int v = 0; v < vectors; v++)
            _mm512_storeu_si512(sums + (g * vectors + v) * 16, sum[g][v]);
#elif defined(__AVX2__)
    for (int v = 0; v < 2 * vectors; v++) {
        __m256i sum[GROUP];
        for (int g = 0; g < columns; g++)
            sum[g] = _mm256_setzero_si256();
        for (i64 i = 0; i < pairs; i++) {
            const __m256i w = _mm256_loadu_si256((const __m256i *)(weights + 32 * vectors * i + 16 * v));
            for (int g = 0; g < columns; g++) {
                int32_t two;
                memcpy(&two, in[g] + 2 * i, 4);
                sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(_mm256_set1_epi32(two), w));
            }
        }
        for (int g = 0; g < columns; g++)
            _mm256_storeu_si256((__m256i *)(sums + g * vectors * 16 + 8 * v), sum[g]);
    }
#else
    const int block = 16 * vectors;
    memset(sums, 0, (size_t)(columns * block) * sizeof *sums);
    for (i64 i = 0; i < pairs; i++, weights += 2 * block)
        for (int g = 0; g < columns; g++)
            for (int k = 0; k < block; k++)
                sums[g * block + k] += in[g][2 * i] * weights[2 * k] + in[g][2 * i + 1] * weights[2 * k + 1];
#endif
}

INLINE void project_sums(const void *context, const Layer *layer, const Stretch *at, i64 k, void *sums, const int vectors)
{
    const Factored *f = context;
    const int16_t *in[MAX_COLUMNS], *weights = f->project + k * f->hidden;
    for (i64 j = 0; j < at->size; j++)
        for (i64 t = 0; t < at->steps; t++) {
            const i64 row = ((at->start + t) * layer->batch + at->b) * layer->height + at->y;
            in[j * at->steps + t] = f->filtered + (row * layer->width + at->first + j) * f->hidden;
        }
    const i64 columns = at->size * at->steps;
    i64 c = 0;
    for (; c + GROUP <= columns; c += GROUP)
        project_group(in + c, GROUP, f->hidden / 2, weights, (int32_t *)sums + c * 16 * vectors, vectors);
    for (; c < columns; c++)
        project_group(in + c, 1, f->hidden / 2, weights, (int32_t *)sums + c * 16 * vectors, vectors);
}

DEFINE_FIRE_ROWS(fire_projected, project_sums, 0)

// Returns the number of spikes.
EXPORT i64 KERNEL(factored)(const Factored *f)
{
    expand_coarse(f);
    expand(f);
    filter(f);
    return fire_projected(f->layer, f);
}
