// Integrate-and-fire neurons over all steps of a window, forward and backward, with batch norm in front of them.
//
// The input is [T][N] with the channel fastest within N, as channels-last memory has it. The backward pass computes the
// membranes again from the input, so that nothing else is kept. Every operation is rounded to float32 in the order of
// model/neurons.py, so that spikes equal those of its loop to the last bit. Sums are split in parts that depend on the size
// alone and added up in one order: results depend neither on the number of threads nor on the instruction set.
#include "plif.h"

// A register's worth at a time: of wider vectors the compiler makes single values.
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
#include "vectors.h"

// Fewer values than this are not worth waking other threads for.
#define SMALL 16384

// So many tiles are summed in float32 before they go to double.
#define FLUSH_EVERY 16

// A row [tile] that repeats a value a channel.
INLINE const float *repeated(float *restrict row, const float *restrict vector, const PlifLayer *layer)
{
    for (i64 first = 0; first < layer->tile; first += layer->num_channels)
        memcpy(row + first, vector, (size_t)layer->num_channels * sizeof *row);
    return row;
}

// The layer with rows [3][tile] in place of its vectors.
INLINE PlifLayer widened(const PlifLayer *layer, float *rows)
{
    PlifLayer wide = *layer;
    wide.mean = repeated(rows, layer->mean, layer);
    wide.scale = repeated(rows + layer->tile, layer->scale, layer);
    wide.bias = repeated(rows + 2 * layer->tile, layer->bias, layer);
    return wide;
}

INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }

INLINE VecF either(VecI which, VecF yes, VecF no) { return (VecF)((which & (VecI)yes) | (~which & (VecI)no)); }

INLINE VecF charge(VecF x, VecF v, PlifNeuron n)
{
    if (!n.leaky)
        return v + x;
    return n.decay_input ? v + (x - v) * n.q : v - v * n.q + x;
}

INLINE VecF reached(VecF h, float threshold) { return either(h >= threshold, (VecF){0} + 1.0f, (VecF){0}); }

INLINE VecF spikes_at(VecF h, PlifNeuron n)
{
    if (!n.levels)
        return reached(h, n.threshold);
    VecF count = {0};
    for (int32_t k = 0; k < n.levels; k++)
        count += reached(h, n.thresholds[k]);
    return count;
}

INLINE VecF after_spikes(VecF h, VecF spikes, PlifNeuron n)
{
    return n.soft_reset ? h - spikes * n.threshold : either(spikes > 0.0f, (VecF){0}, h);
}

// e^-x for x >= 0, as 2^k e^r with a Taylor series for r. libm's takes one value at a time.
INLINE VecF decayed(VecF x)
{
    const VecF lowest = (VecF){0} - 87.0f, wanted = either(x > 87.0f, lowest, -x);
    const VecI k = __builtin_convertvector(wanted * 1.44269504088896341f - 0.5f, VecI);
    const VecF whole = __builtin_convertvector(k, VecF);
    // ln 2 in two parts, the first so short that its product with k is exact.
    const VecF r = wanted - whole * 0.693359375f + whole * 2.12194440e-4f;
    const VecF tail = 1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720 + r * (1.0f / 5040)));
    return (VecF)((k + 127) << 23) * (1.0f + r * (1.0f + r * (1.0f / 2 + r * (1.0f / 6 + r * tail))));
}

// Surrogate derivative of a spike, u above the threshold; see ops/surrogate.py.
INLINE VecF derivative(VecF u, PlifNeuron n)
{
    if (n.surrogate == ATAN) {
        const VecF w = 1.57079632679489662f * n.alpha * u;
        return n.alpha * 0.5f / (1.0f + w * w);
    }
    const VecF size = (VecF)((VecI)u & 0x7FFFFFFF);
    if (n.surrogate == RECTANGLE)
        return either(size < n.alpha * 0.5f, (VecF){0} + 1.0f / n.alpha, (VecF){0});
    const VecF e = decayed(n.alpha * size);
    return n.alpha * e / ((1.0f + e) * (1.0f + e));
}

INLINE VecF grad_charged(VecF grad, VecF carried, VecF h, PlifNeuron n)
{
    if (!n.detach_reset)
        grad -= carried * (n.soft_reset ? (VecF){0} + n.threshold : h);
    const VecF kept = n.soft_reset ? carried : either(h >= n.threshold, (VecF){0}, carried);
    if (!n.levels)
        return grad * derivative(h - n.threshold, n) + kept;
    VecF slope = {0};
    for (int32_t k = 0; k < n.levels; k++)
        slope += derivative(h - n.thresholds[k], n);
    return grad * slope + kept;
}

INLINE VecF grad_input(VecF g_h, PlifNeuron n) { return n.leaky && n.decay_input ? g_h * n.q : g_h; }

INLINE VecF grad_membrane(VecF g_h, PlifNeuron n) { return n.leaky ? g_h * (1.0f - n.q) : g_h; }

INLINE VecF grad_leak(VecF g_h, VecF x, VecF v, PlifNeuron n) { return n.decay_input ? g_h * (x - v) : -(g_h * v); }

INLINE void add_to(float *sum, VecF v) { store_f(sum, load_f(sum) + v); }

// Values first to first + n of a vector, or 0 without one; the rest of the row [tile] is 0, so that it adds to no sum.
INLINE void start(float *row, const float *from, i64 first, i64 n, i64 tile)
{
    const i64 taken = from ? n : 0;
    if (from)
        memcpy(row, from + first, (size_t)n * sizeof *row);
    memset(row + taken, 0, (size_t)(tile - taken) * sizeof *row);
}

// Float rows [count][tile] that are added to doubles [count][C] now and then.
typedef struct {
    float *rows;
    double *totals;
    i64 count, num_channels, tile, since;
} Flush;

INLINE void write_sums(Flush *f)
{
    for (i64 k = 0; k < f->count; k++) {
        double *restrict total = f->totals + k * f->num_channels;
        for (i64 first = 0; first < f->tile; first += f->num_channels) {
            float *restrict row = f->rows + k * f->tile + first;
            for (i64 c = 0; c < f->num_channels; c++) {
                total[c] += row[c];
                row[c] = 0.0f;
            }
        }
    }
    f->since = 0;
}

INLINE void clear(Flush *f)
{
    memset(f->rows, 0, (size_t)(f->count * f->tile) * sizeof *f->rows);
    memset(f->totals, 0, (size_t)(f->count * f->num_channels) * sizeof *f->totals);
}

INLINE void count_tile(Flush *f)
{
    if (++f->since == FLUSH_EVERY)
        write_sums(f);
}

// Adds the other parts [count] to the first, in order.
INLINE void add_parts(double *partial, i64 parts, i64 count)
{
    for (i64 part = 1; part < parts; part++)
        for (i64 k = 0; k < count; k++)
            partial[k] += partial[part * count + k];
}

INLINE float get_f32(float stored) { return stored; }
INLINE float put_f32(float value) { return value; }

INLINE float get_bf16(uint16_t stored)
{
    const uint32_t bits = (uint32_t)stored << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Rounded to nearest, ties to even.
INLINE uint16_t put_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

#define STORED float
#define SUFFIX f32
#define get get_f32
#define put put_f32
#include "plif_stored.h"
#undef STORED
#undef SUFFIX
#undef get
#undef put

#define STORED uint16_t
#define SUFFIX bf16
#define get get_bf16
#define put put_bf16
#include "plif_stored.h"
