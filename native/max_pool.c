// torch's max_pool2d(x, 3, 2, 1) over channels-last images [num][height][width][channels], and its backward pass. The
// first of equal values is the greatest, as in torch; its place in the window, a byte a value, is all that is kept.
#include <math.h>

#include "max_pool.h"
#include "vectors.h"

INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }

INLINE i64 halved(i64 size) { return (size + 1) / 2; }

INLINE VecI choose(VecI mask, VecI a, VecI b) { return (mask & a) | (~mask & b); }

// The window around pixel (2 row, 2 column) of one image, `room` channels of it: the greatest of every channel.
INLINE void greatest(const Images *images, const char *x, char *out, uint8_t *places, i64 row, i64 column, i64 room,
                     const int size)
{
    VecF best = (VecF){0} - INFINITY;
    VecI place = (VecI){0} + (row ? 0 : 3) + (column ? 0 : 1);
    for (int k = 0; k < 9; k++) {
        const i64 y = 2 * row + k / 3 - 1, column_in = 2 * column + k % 3 - 1;
        if (y < 0 || y >= images->height || column_in < 0 || column_in >= images->width)
            continue;
        const VecF value = load(x + (y * images->width + column_in) * images->channels * size, room, size);
        const VecI greater = (value > best) | (value != value);
        best = (VecF)choose(greater, (VecI)value, (VecI)best);
        place = choose(greater, (VecI){0} + k, place);
    }
    store(out, best, room, size);
    store_bytes(places, place, room);
}

INLINE void forward_row(const Images *images, const char *x, char *out, uint8_t *places, i64 i, const int size)
{
    const i64 rows = halved(images->height), columns = halved(images->width), channels = images->channels;
    x += i / rows * images->height * images->width * channels * size;
    for (i64 column = 0; column < columns; column++) {
        const i64 at = (i * columns + column) * channels;
        i64 c = 0;
        for (; c + LANES <= channels; c += LANES)
            greatest(images, x + c * size, out + (at + c) * size, places + at + c, i % rows, column, LANES, size);
        if (c < channels)
            greatest(images, x + c * size, out + (at + c) * size, places + at + c, i % rows, column, channels - c, size);
    }
}

EXPORT void KERNEL(pool_forward)(const Images *images, const char *x, char *out, uint8_t *places)
{
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < images->num * halved(images->height); i++)
        if (images->size == 2)
            forward_row(images, x, out, places, i, 2);
        else
            forward_row(images, x, out, places, i, 4);
}

// What a window's gradient [room channels] gives to its pixel `place`.
INLINE VecF share(const char *grad, const uint8_t *places, int32_t place, i64 room, const int size)
{
    return (VecF)((load_bytes(places, room) == place) & (VecI)load(grad, room, size));
}

// The gradients at pixels 2 column and 2 column + 1 of row y, `room` channels of them, from the windows that hold them.
INLINE void gather(const Images *images, const char *grad, const uint8_t *places, char *grad_x, i64 y, i64 column, i64 room,
                   const int size)
{
    const i64 columns = halved(images->width), channels = images->channels;
    const i64 last = least((y + 1) / 2, halved(images->height) - 1);
    VecF even = {0}, odd = {0};
    for (i64 row = y / 2; row <= last; row++) {
        const i64 at = (row * columns + column) * channels;
        const int32_t left = (int32_t)(3 * (y - 2 * row + 1));
        even += share(grad + at * size, places + at, left + 1, room, size);
        odd += share(grad + at * size, places + at, left + 2, room, size);
        if (column + 1 < columns)
            odd += share(grad + (at + channels) * size, places + at + channels, left, room, size);
    }
    store(grad_x, even, room, size);
    if (2 * column + 1 < images->width)
        store(grad_x + channels * size, odd, room, size);
}

INLINE void backward_row(const Images *images, const char *grad, const uint8_t *places, char *grad_x, i64 i, const int size)
{
    const i64 y = i % images->height, columns = halved(images->width), channels = images->channels;
    const i64 image = i / images->height * halved(images->height) * columns * channels;
    grad += image * size;
    places += image;
    for (i64 column = 0; column < columns; column++) {
        char *to = grad_x + (i * images->width + 2 * column) * channels * size;
        i64 c = 0;
        for (; c + LANES <= channels; c += LANES)
            gather(images, grad + c * size, places + c, to + c * size, y, column, LANES, size);
        if (c < channels)
            gather(images, grad + c * size, places + c, to + c * size, y, column, channels - c, size);
    }
}

EXPORT void KERNEL(pool_backward)(const Images *images, const char *grad, const uint8_t *places, char *grad_x)
{
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < images->num * images->height; i++)
        if (images->size == 2)
            backward_row(images, grad, places, grad_x, i, 2);
        else
            backward_row(images, grad, places, grad_x, i, 4);
}
