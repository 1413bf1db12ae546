// Neurons of a memory, model/neurons.py's GatedNeuron: a gate between 0 and 1 says how far the membrane goes to its drive.
#include "gated.h"
#include "neuron.h"

// exp(x), clamped so that the result is finite and no denormal: x = n log(2) + r, |r| <= log(2) / 2, and a polynomial for
// exp(r) with the coefficients of Cephes' expf (Moshier, netlib.org/cephes), which is right to 2 units in the last place.
INLINE VecF exponential(VecF x)
{
    const VecF most = (VecF){0} + 88.0f, magic = (VecF){0} + 12582912.0f; // adding 1.5 * 2^23 rounds to a whole number
    x = either(reach(x, most), most, x);
    x = either(reach(x, -most), x, -most);
    const VecF n = (x * 1.44269504f + magic) - magic;
    const VecF r = x - n * 0.693359375f + n * 2.12194440e-4f;
    VecF p = (VecF){0} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const VecI exponent = (__builtin_convertvector(n, VecI) + 127) << 23;
    return p * (VecF)exponent;
}

// One row of one sample; returns the number of spikes of the output.
INLINE i64 gated_row(const Gated *layer, i64 b, i64 y)
{
    const i64 C = layer->channels, P = layer->padded_currents, bytes = layer->output->channels;
    const VecF threshold = (VecF){0} + layer->threshold, one = (VecF){0} + 1.0f, half = (VecF){0} + 0.5f;
    i64 total = 0;
    for (i64 x = 0; x < layer->width; x++) {
        const i64 place = ((b * layer->height + y) * layer->width + x) * layer->padded_channels;
        for (i64 c = 0; c < C; c += LANES) {
            const i64 room = C - c < LANES ? C - c : LANES;
            VecF v = layer->old_membranes ? load_f(layer->old_membranes + place + c) : (VecF){0};
            for (i64 t = 0; t < layer->num_steps; t++) {
                const i64 n = t * layer->batch + b;
                const float *currents = layer->currents + ((n * layer->height + y) * layer->width + x) * P + c;
                const VecF drive = load_float32(currents, room), gate = load_float32(currents + C, room);
                const VecF opening = one / (one + exponential(-gate)), way = drive - v;
                // As torch.lerp: from the nearer end.
                v = either(reach(opening, half), drive - way * (one - opening), v + opening * way);
                const VecB fired = spikes_of(reach(v, threshold));
                const uint8_t *in = pixel(layer->input, n, y, x) + c;
                uint8_t *out = pixel(layer->output, n, y, x) + c;
                for (i64 i = 0; i < room; i++)
                    out[i] = in[i] | (uint8_t)fired[i];
            }
            if (layer->membranes)
                store_f(layer->membranes + place + c, v);
        }
        for (i64 t = 0; t < layer->num_steps; t++)
            total += count_spikes(pixel(layer->output, t * layer->batch + b, y, x), bytes);
    }
    return total;
}

// Returns the number of spikes of the output.
EXPORT i64 KERNEL(gated)(const Gated *layer)
{
    i64 total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (i64 i = 0; i < layer->batch * layer->height; i++)
        total += gated_row(layer, i / layer->height, i % layer->height);
    return total;
}
