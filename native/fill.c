#include "spikes.h"

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
