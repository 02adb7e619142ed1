/* What happens to a step's rows between products, on a CPU: norm, rotary embedding, storing.

   Each is a few operators in torch, which for the rows of a decode step cost more than their
   mathematics: every one is a call, a result in memory, and in bf16 two conversions. */

#include <math.h>

#include "kernels.h"
#include "vectors.h"

enum { ALONE = 1 << 15 }; /* numbers that one thread is done with before others are awake */

/* A register of numbers of either type. */
INLINE vec number(int64_t half, const void *x, int64_t at) {
    return half ? load_half((const uint16_t *)x + at) : load((const float *)x + at);
}

INLINE void keep(int64_t half, void *x, int64_t at, vec value) {
    if (half) store_half((uint16_t *)x + at, value);
    else store((float *)x + at, value);
}

/* RMS norm (Zhang and Sennrich, 2019): x / sqrt(mean(x^2) + epsilon), times its weight if it has
   one here and is not multiplied into the next product. */
void plait_norm(const Norm *n) {
#pragma omp parallel for schedule(static) num_threads(n->threads) \
    if (n->rows * n->heads * n->size > ALONE)
    for (int64_t at = 0; at < n->rows * n->heads; at++) {
        int64_t from = at / n->heads * n->row + at % n->heads * n->head;
        int64_t to = at / n->heads * n->out_row + at % n->heads * n->head;
        vec squares = all(0);
        for (int64_t d = 0; d < n->size; d += W) {
            vec x = number(n->half, n->x, from + d);
            squares += x * x;
        }
        float sum = 0;
        for (int j = 0; j < W; j++) sum += squares[j];
        float share = 1 / sqrtf(sum / n->size + n->epsilon);
        for (int64_t d = 0; d < n->size; d += W) {
            keep(n->half, n->out, to + d, number(n->half, n->x, from + d) * share);
            if (n->weight) /* as models do: rounded before it is multiplied */
                keep(n->half, n->out, to + d,
                     number(n->half, n->out, to + d) * number(n->half, n->weight, d));
        }
    }
}

INLINE void turn_pair(float *a, float *b, const float *turn) {
    float x = *a, y = *b;
    *a = x * turn[0] - y * turn[1];
    *b = x * turn[1] + y * turn[0];
}

/* Rotary embedding in place (Su et al., 2021), of numbers whose pairs are neighbours. */
void plait_turn(const Turn *t) {
#pragma omp parallel for schedule(static) num_threads(t->threads) \
    if (t->rows * t->heads * t->size > ALONE)
    for (int64_t at = 0; at < t->rows * t->heads; at++) {
        const float *turn = t->turn + at / t->heads * t->size;
        int64_t from = at / t->heads * t->row + at % t->heads * t->head;
        if (!t->half) {
            float *x = (float *)t->x + from;
            for (int64_t d = 0; d < t->size; d += 2) turn_pair(x + d, x + d + 1, turn + d);
            continue;
        }
        uint16_t *x = (uint16_t *)t->x + from;
        for (int64_t d = 0; d < t->size; d += W) {
            float wide[W];
            store(wide, load_half(x + d));
            for (int i = 0; i < W; i += 2) turn_pair(wide + i, wide + i + 1, turn + d + i);
            store_half(x + d, load(wide));
        }
    }
}

/* Rows of keys and values to their slots of the pool. */
void plait_put(const Put *p) {
#pragma omp parallel for schedule(static) num_threads(p->threads) \
    if (p->rows * (p->key_bytes + p->value_bytes) > 4 * ALONE)
    for (int64_t row = 0; row < p->rows; row++) {
        int64_t slot = p->slots[row];
        memcpy((char *)p->keys + slot * p->key_bytes, (const char *)p->key + row * p->key_row,
               p->key_bytes);
        memcpy((char *)p->values + slot * p->value_bytes,
               (const char *)p->value + row * p->value_row, p->value_bytes);
    }
}
