/* What the kernels are told, but for attention (step.h): the structures of product.py, put.py and layers.c. */

#ifndef PLAIT_KERNELS_H
#define PLAIT_KERNELS_H

#include <stdint.h>

/* Everywhere: `half` says bf16 instead of fp32. */

enum { PLAIN, SILU, ADD, TIMES }; /* what a product does with its result while it is written */

typedef struct {
    int64_t rows, words, outputs, x_row; /* x_row: words from one row of x to the next */
    int64_t half, operation, threads;
    const int32_t *x, *weight; /* (rows, words), (panels, words, columns) */
    const float *bias;         /* (panels * columns), or null */
    const void *other;         /* (rows, outputs): what to add, or to multiply with */
    void *out;                 /* (rows, outputs) */
} Product;

typedef struct {
    int64_t rows, heads, size, row, head; /* row, head: numbers from one to the next */
    int64_t out_row;                      /* the same of the result, whose heads lie like x's */
    int64_t half, threads;
    float epsilon;
    const void *x, *weight; /* weight: (size), or null */
    void *out;
} Norm;

typedef struct {
    int64_t rows, heads, size, row, head;
    int64_t half, threads;
    void *x;
    const float *turn; /* (rows, size / 2, 2): cosine and sine */
} Turn;

typedef struct {
    int64_t rows, threads, key_bytes, value_bytes; /* of one row's heads together */
    int64_t key_row, value_row;                    /* bytes from one row to the next */
    const void *key, *value;
    void *keys, *values; /* the pool */
    const int64_t *slots;
} Put;

void plait_multiply(const Product *);
void plait_norm(const Norm *);
void plait_turn(const Turn *);
void plait_put(const Put *);

#endif
