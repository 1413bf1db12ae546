// What the max-pool's kernels take.
#ifndef MAX_POOL_H
#define MAX_POOL_H

#include "scn.h"

typedef struct {
    i64 num, height, width, channels;
    i64 size;  // bytes a value: 4 float32, 2 bfloat16
} Images;

#endif
