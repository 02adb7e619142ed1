/* Vectors of fp32 numbers as wide as the processor's registers, by the extension that GCC and Clang
   share; bf16 numbers as they lie in memory. */

#ifndef PLAIT_VECTORS_H
#define PLAIT_VECTORS_H

#include <stdint.h>
#include <string.h>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { W = 16, TILES = 16 }; /* numbers in a register; registers that a tile of attention adds up in */
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#else
enum { W = 8, TILES = 8 };
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#endif
#ifdef __clang__
#define chosen(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define chosen(a, b, ...) __builtin_shuffle(a, b, (bits){__VA_ARGS__})
#endif
typedef float vec __attribute__((vector_size(W * 4)));
typedef int32_t bits __attribute__((vector_size(W * 4)));
typedef uint32_t ubits __attribute__((vector_size(W * 4))); /* may overflow */
typedef uint16_t halfs __attribute__((vector_size(W * 2)));

#define INLINE static inline __attribute__((always_inline))
/* Loops that need all registers to themselves. */
#define APART static __attribute__((noinline))

INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
/* Keeps a number in its register: compilers read it from memory again for every product. */
INLINE vec held(vec v) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#endif
    return v;
}
INLINE vec pick(bits which, vec a, vec b) { return (vec)(((bits)a & which) | ((bits)b & ~which)); }
INLINE vec larger(vec a, vec b) { return pick(a > b, a, b); }

/* e^x to about 1e-7 of it; 0 below -87, NaN stays. x = n ln 2 + r: 2^n by the exponent's bits,
   e^r by its series. */
INLINE vec exponential(vec x) {
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    bits kept = ~(x < all(-87.0f));
    vec z = x * 1.44269504f + magic;
    vec n = z - magic;
    vec r = x - n * 0.693145752f - n * 1.42860677e-6f;
    vec p = all(1.0f / 720.0f);
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits found = (bits)((ubits)p + ((ubits)z << 23)) & kept, nan = x != x;
    return pick(nan, x, (vec)found);
}

/* sum + a[2i] b[2i] + a[2i + 1] b[2i + 1] for pairs of bf16 numbers, where the processor can. */
#ifdef __AVX512BF16__
INLINE vec add_pairs(vec sum, bits a, bits b) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
enum { HALVES = 1 };
#else
INLINE vec add_pairs(vec sum, bits a, bits b) { return sum + (vec)(a + b); } /* never called */
enum { HALVES = 0 };
#endif

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE float widened(uint16_t x) {
    uint32_t wide = (uint32_t)x << 16;
    float number;
    memcpy(&number, &wide, 4);
    return number;
}

INLINE vec load_half(const uint16_t *p) {
    halfs narrow;
    memcpy(&narrow, p, sizeof narrow);
    return (vec)(__builtin_convertvector(narrow, bits) << 16);
}

INLINE void store_half(uint16_t *p, vec x) { /* to nearest, ties to even */
    ubits wide = (ubits)x, kept = (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
    ubits nan = (ubits)(x != x);
    halfs narrow = __builtin_convertvector((kept & ~nan) | (0x7fc0 & nan), halfs);
    memcpy(p, &narrow, sizeof narrow);
}

#endif
