#include "spikes.h"

// Max-pooling 3x3 with stride 2 and padding 1, which over neurons of one spike is an OR. Returns the number of spikes.
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
                uint8_t most = 0;
                for (i64 k = 0; k < 3; k++)
                    for (i64 j = 0; j < 3; j++)
                        most = a[k * row + j * C + c] > most ? a[k * row + j * C + c] : most;
                o[c] = most;
            }
        }
        total += count_spikes(to, out->width * C);
    }
    return total;
}
