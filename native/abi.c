// What the caller compares with its own idea of the structs when it loads the library.
#include "abi.h"
#include "factored.h"
#include "gated.h"
#include "max_pool.h"
#include "plif.h"
#include "scn.h"
#include "spikes.h"
#include "stem.h"

typedef struct {
    const char *name;
    i64 value;
} Fact;

#define SIZE(STRUCT) {"sizeof(" #STRUCT ")", sizeof(STRUCT)}
#define OFFSET(STRUCT, FIELD) {"offsetof(" #STRUCT ", " #FIELD ")", offsetof(STRUCT, FIELD)}
#define CONSTANT(NAME) {#NAME, NAME}

// clang-format off
static const Fact facts[] = {
    SIZE(Plane), OFFSET(Plane, height), OFFSET(Plane, width), OFFSET(Plane, channels), OFFSET(Plane, halo),
    OFFSET(Plane, bytes),
    SIZE(Layer), OFFSET(Layer, input), OFFSET(Layer, output), OFFSET(Layer, dense_weights), OFFSET(Layer, event_weights),
    OFFSET(Layer, scale), OFFSET(Layer, bias), OFFSET(Layer, q), OFFSET(Layer, threshold), OFFSET(Layer,
    old_membranes), OFFSET(Layer, membranes), OFFSET(Layer, counts), OFFSET(Layer, num_steps), OFFSET(Layer, batch),
    OFFSET(Layer, kernel), OFFSET(Layer, stride), OFFSET(Layer, height), OFFSET(Layer, width), OFFSET(Layer,
    padded_channels), OFFSET(Layer, dense_block), OFFSET(Layer, event_block), OFFSET(Layer, leaky), OFFSET(Layer,
    decay_input), OFFSET(Layer, soft_reset), OFFSET(Layer, levels), OFFSET(Layer, largest_input),
    OFFSET(Layer, floats),
    SIZE(Lists), OFFSET(Lists, keys), OFFSET(Lists, offsets),
    SIZE(Factored), OFFSET(Factored, coarse), OFFSET(Factored, skip), OFFSET(Factored, layer), OFFSET(Factored,
    expand_coarse), OFFSET(Factored, expand_skip), OFFSET(Factored, expand_bias), OFFSET(Factored, expand_shift),
    OFFSET(Factored, filter), OFFSET(Factored, filter_bias), OFFSET(Factored, filter_shift), OFFSET(Factored,
    project), OFFSET(Factored, coarse_sums), OFFSET(Factored, expanded), OFFSET(Factored, filtered), OFFSET(Factored,
    hidden),
    SIZE(Gated), OFFSET(Gated, input), OFFSET(Gated, output), OFFSET(Gated, currents), OFFSET(Gated, old_membranes),
    OFFSET(Gated, membranes), OFFSET(Gated, num_steps), OFFSET(Gated, batch), OFFSET(Gated, height), OFFSET(Gated, width),
    OFFSET(Gated, channels), OFFSET(Gated, padded_channels), OFFSET(Gated, padded_currents), OFFSET(Gated, threshold),
    SIZE(Images), OFFSET(Images, num), OFFSET(Images, height), OFFSET(Images, width), OFFSET(Images, channels),
    OFFSET(Images, size),
    SIZE(Convolution), OFFSET(Convolution, num), OFFSET(Convolution, in_channels), OFFSET(Convolution, in_height),
    OFFSET(Convolution, in_width), OFFSET(Convolution, out_channels), OFFSET(Convolution, height), OFFSET(Convolution,
    width), OFFSET(Convolution, kernel), OFFSET(Convolution, stride), OFFSET(Convolution, padding),
    OFFSET(Convolution, size), OFFSET(Convolution, parts),
    SIZE(PlifNeuron), OFFSET(PlifNeuron, q), OFFSET(PlifNeuron, threshold), OFFSET(PlifNeuron, alpha),
    OFFSET(PlifNeuron, leaky), OFFSET(PlifNeuron, decay_input), OFFSET(PlifNeuron, soft_reset), OFFSET(PlifNeuron,
    detach_reset), OFFSET(PlifNeuron, surrogate), OFFSET(PlifNeuron, levels), OFFSET(PlifNeuron, thresholds),
    SIZE(PlifLayer), OFFSET(PlifLayer, num_neurons), OFFSET(PlifLayer, num_steps), OFFSET(PlifLayer, num_channels),
    OFFSET(PlifLayer, tile), OFFSET(PlifLayer, parts), OFFSET(PlifLayer, mean), OFFSET(PlifLayer, scale),
    OFFSET(PlifLayer, bias), OFFSET(PlifLayer, neuron),
    CONSTANT(LIST_SLACK), CONSTANT(STEM_LANES), CONSTANT(MAX_SPIKES), CONSTANT(PLIF_FIXED_ROWS), CONSTANT(ATAN), CONSTANT(SIGMOID),
    CONSTANT(RECTANGLE),
};
// clang-format on

EXPORT int64_t scn_abi_version(void) { return SCN_ABI_VERSION; }

// The name of fact `index`, whose value it writes; NULL after the last one.
EXPORT const char *scn_abi_fact(i64 index, i64 *value)
{
    if (index < 0 || index >= (i64)(sizeof facts / sizeof *facts))
        return NULL;
    *value = facts[index].value;
    return facts[index].name;
}
