#include "spikes.h"

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
