// LANES values at a time: unless somebody has chosen before, 16, which is a vector register of AVX-512 and two or four of the
// lesser instruction sets.
#ifndef VECTORS_H
#define VECTORS_H

#include "scn.h"

#ifndef LANES
#define LANES 16
#endif

typedef float VecF __attribute__((vector_size(4 * LANES)));
typedef float VecFU __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t VecI __attribute__((vector_size(4 * LANES)));
typedef int32_t VecIU __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t VecU __attribute__((vector_size(4 * LANES)));
typedef uint16_t VecH __attribute__((vector_size(2 * LANES)));
typedef uint8_t VecB __attribute__((vector_size(LANES)));
typedef uint8_t VecBU __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE VecF load_f(const float *p) { return *(const VecFU *)p; }
INLINE void store_f(float *p, VecF v) { *(VecFU *)p = v; }
INLINE VecI load_i(const int32_t *p) { return *(const VecIU *)p; }

INLINE VecF load_float32(const void *p, i64 room)
{
    VecF v = {0};
    memcpy(&v, p, room < LANES ? (size_t)room * 4 : sizeof v);
    return v;
}

INLINE VecF load_bfloat16(const void *p, i64 room)
{
    VecH v = {0};
    memcpy(&v, p, room < LANES ? (size_t)room * 2 : sizeof v);
    return (VecF)(__builtin_convertvector(v, VecU) << 16);
}

INLINE void store_float32(void *p, VecF v, i64 room) { memcpy(p, &v, room < LANES ? (size_t)room * 4 : sizeof v); }

// Rounded to nearest, ties to even.
INLINE void store_bfloat16(void *p, VecF v, i64 room)
{
    const VecU bits = (VecU)v;
    const VecH rounded = __builtin_convertvector((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, VecH);
    memcpy(p, &rounded, room < LANES ? (size_t)room * 2 : sizeof rounded);
}

// `size` bytes a value: 4 float32, 2 bfloat16.
INLINE VecF load(const char *p, i64 room, const int size)
{
    return size == 2 ? load_bfloat16(p, room) : load_float32(p, room);
}

INLINE void store(char *p, VecF v, i64 room, const int size)
{
    if (size == 2)
        store_bfloat16(p, v, room);
    else
        store_float32(p, v, room);
}

INLINE VecI load_bytes(const uint8_t *p, i64 room)
{
    VecB v = {0};
    memcpy(&v, p, room < LANES ? (size_t)room : sizeof v);
    // In two steps: in one, gcc takes the bytes apart.
    return __builtin_convertvector(__builtin_convertvector(v, VecH), VecI);
}

INLINE void store_bytes(uint8_t *p, VecI v, i64 room)
{
    const VecB bytes = __builtin_convertvector(__builtin_convertvector(v, VecH), VecB);
    memcpy(p, &bytes, room < LANES ? (size_t)room : sizeof bytes);
}

#endif
