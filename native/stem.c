// The first convolution, from the events of a cube: nearly all of its inputs are zero, and only the others are looked at.
//
// The cube is uint8 [num][in_channels][in_height][in_width], as it was filled; the output is channels-last [num][height]
// [width][out_channels]. Output channels are worked on in blocks of LANES: weights are float32 [blocks][in_channels]
// [kernel (y)][kernel (x)][LANES]. Rows of output are split in parts that depend on the size alone.
#include "stem.h"

#define LANES STEM_LANES
#include "vectors.h"

INLINE i64 num_blocks(const Convolution *conv) { return (conv->out_channels + LANES - 1) / LANES; }

INLINE i64 block_floats(const Convolution *conv) { return conv->in_channels * conv->kernel * conv->kernel * LANES; }

// A row of sums has a kernel's width of columns more on both sides, which inputs at the border reach.
INLINE i64 row_floats(const Convolution *conv) { return (conv->width + 2 * conv->kernel) * LANES; }

// Eight bytes, the first one lowest, zeros where the row has ended.
INLINE uint64_t eight(const uint8_t *p, i64 room)
{
    uint64_t bytes = 0;
    if (room >= 8)
        memcpy(&bytes, p, 8);
    else
        memcpy(&bytes, p, (size_t)room);
    return bytes;
}

// Adds the weights that an input meets to the sums of a row, or, backward, what the sums are to the weights.
INLINE void meet(float *sums, float *weights, i64 place, float value, const int kernel, const int stride, const int backward)
{
    float *sum = sums + (place / stride + kernel) * LANES;
#pragma GCC unroll 4
    for (i64 k = place % stride; k < kernel; k += stride, sum -= LANES) {
        float *weight = weights + k * LANES;
        if (backward)
            store_f(weight, load_f(weight) + load_f(sum) * value);
        else
            store_f(sum, load_f(sum) + load_f(weight) * value);
    }
}

// Every input of output row y of one image, for one block of channels.
INLINE void row(const Convolution *conv, const uint8_t *image, float *sums, float *weights, i64 y, const int kernel,
                const int stride, const int backward)
{
    for (i64 ky = 0; ky < kernel; ky++) {
        const i64 in_y = y * stride + ky - conv->padding;
        if (in_y < 0 || in_y >= conv->in_height)
            continue;
        for (i64 c = 0; c < conv->in_channels; c++) {
            const uint8_t *in = image + (c * conv->in_height + in_y) * conv->in_width;
            float *of_row = weights + (c * kernel + ky) * kernel * LANES;
            for (i64 x = 0; x < conv->in_width; x += 8)
                for (uint64_t bytes = eight(in + x, conv->in_width - x); bytes;) {
                    const int bit = __builtin_ctzll(bytes) & ~7;
                    meet(sums, of_row, x + bit / 8 + conv->padding, (float)(bytes >> bit & 255), kernel, stride, backward);
                    bytes &= ~((uint64_t)255 << bit);
                }
        }
    }
}

INLINE void any_row(const Convolution *conv, const uint8_t *cube, float *sums, float *weights, i64 unit, const int backward)
{
    const uint8_t *image = cube + unit / conv->height * conv->in_channels * conv->in_height * conv->in_width;
    // The paper's stem, known to the compiler.
    if (conv->kernel == 7 && conv->stride == 2)
        row(conv, image, sums, weights, unit % conv->height, 7, 2, backward);
    else
        row(conv, image, sums, weights, unit % conv->height, (int)conv->kernel, (int)conv->stride, backward);
}

// `scratch` is [parts] rows of sums.
EXPORT void KERNEL(stem_forward)(const Convolution *conv, const uint8_t *cube, float *weights, char *out, float *scratch)
{
    const i64 units = conv->num * conv->height, size = conv->size;
#pragma omp parallel for schedule(static)
    for (i64 part = 0; part < conv->parts; part++) {
        float *sums = scratch + part * row_floats(conv), *inside = sums + conv->kernel * LANES;
        for (i64 unit = units * part / conv->parts; unit < units * (part + 1) / conv->parts; unit++)
            for (i64 block = 0; block < num_blocks(conv); block++) {
                const i64 room = conv->out_channels - block * LANES;
                memset(sums, 0, (size_t)row_floats(conv) * sizeof *sums);
                any_row(conv, cube, sums, weights + block * block_floats(conv), unit, 0);
                char *to = out + (unit * conv->width * conv->out_channels + block * LANES) * size;
                for (i64 x = 0; x < conv->width; x++, to += conv->out_channels * size)
                    store(to, load_f(inside + x * LANES), room, size);
            }
    }
}

// Writes the weights' gradient to the first of `grad_weights` [parts]. `scratch` is [parts] rows of sums.
EXPORT void KERNEL(stem_backward)(const Convolution *conv, const uint8_t *cube, const char *grad, float *grad_weights,
                                  float *scratch)
{
    const i64 units = conv->num * conv->height, size = conv->size, floats = num_blocks(conv) * block_floats(conv);
#pragma omp parallel for schedule(static)
    for (i64 part = 0; part < conv->parts; part++) {
        float *sums = scratch + part * row_floats(conv), *inside = sums + conv->kernel * LANES;
        float *own = grad_weights + part * floats;
        memset(sums, 0, (size_t)row_floats(conv) * sizeof *sums);
        memset(own, 0, (size_t)floats * sizeof *own);
        for (i64 unit = units * part / conv->parts; unit < units * (part + 1) / conv->parts; unit++)
            for (i64 block = 0; block < num_blocks(conv); block++) {
                const i64 room = conv->out_channels - block * LANES;
                const char *from = grad + (unit * conv->width * conv->out_channels + block * LANES) * size;
                for (i64 x = 0; x < conv->width; x++, from += conv->out_channels * size)
                    store_f(inside + x * LANES, load(from, room, size));
                any_row(conv, cube, sums, own + block * block_floats(conv), unit, 1);
            }
    }
    for (i64 part = 1; part < conv->parts; part++)
        for (i64 i = 0; i < floats; i++)
            grad_weights[i] += grad_weights[part * floats + i];
}
