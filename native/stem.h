// What the stem's kernels take.
#ifndef STEM_H
#define STEM_H

#include "scn.h"

// Output channels that are worked on together: the caller packs weights and sizes its scratch by it.
#define STEM_LANES 16

typedef struct {
    i64 num, in_channels, in_height, in_width, out_channels, height, width;
    i64 kernel, stride, padding;
    i64 size;  // bytes a value of the output: 4 float32, 2 bfloat16
    i64 parts;
} Convolution;

#endif
