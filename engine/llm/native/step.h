/* One layer's attention as the kernel is told of it, and what its parts have in common. */

#ifndef PLAIT_STEP_H
#define PLAIT_STEP_H

#include <math.h>

#include "vectors.h"

enum { LANES = 4 * W, KEYS = 64, FEW = 32, MOST = 256, HEADS = 64 };
enum { ROW, ROWS, POSITION, LENGTH, RUN, LEVEL, UNIT }; /* a unit's numbers, and how many */

typedef struct {
    int64_t rows, heads, kv_heads, key_size, value_size;
    int64_t half; /* bf16 instead of fp32: query, keys, values and out */
    int64_t threads, units, levels, window; /* window 0: none */
    int64_t query_row, query_head; /* numbers from one to the next */
    float scale, softcap; /* softcap 0: none */
    const void *query, *keys, *values;
    void *out; /* (rows, heads, value_size) */
    float *outs, *lses; /* (levels, rows, heads, value_size) and (levels, rows, heads) */
    const int64_t *unit, *run; /* (units, UNIT), (runs, 2): first slot, slots */
    const int64_t *position; /* of every row */
    const float *sinks; /* by head, or null */
} Step;

static const float NONE = -INFINITY;

/* Whether keys meet queries as pairs of bf16 numbers, two in a word. Else numbers are fp32, widened
   where the pool's are not. */
INLINE int in_pairs(const Step *s) { return HALVES && s->half && s->key_size % 2 == 0; }
INLINE int64_t words_of(const Step *s) { return in_pairs(s) ? s->key_size / 2 : s->key_size; }

/* A word of a query that begins at number `from`. */
INLINE float word(const Step *s, const void *query, int64_t from, int64_t at) {
    float pair;
    if (!s->half) return ((const float *)query)[from + at];
    if (!in_pairs(s)) return widened(((const uint16_t *)query)[from + at]);
    memcpy(&pair, (const uint16_t *)query + from + 2 * at, 4);
    return pair;
}

/* Where a unit's slots are, from the first on. */
typedef struct {
    const int64_t *run;
    int64_t at;
} Reader;

/* `count` slots further on. */
INLINE Reader advanced(Reader reader, int64_t count) {
    while (count > reader.run[1] - reader.at) {
        count -= reader.run[1] - reader.at;
        reader.run += 2, reader.at = 0;
    }
    reader.at += count;
    return reader;
}

/* Slots of a unit, in whole blocks, that lie behind the window of a row at this position and of
   all rows after it. */
INLINE int64_t unseen(const Step *s, const int64_t *unit, int64_t position, int64_t block) {
    int64_t first = position - s->window + 1 - unit[POSITION];
    if (!s->window || first <= 0) return 0;
    return least(first, unit[LENGTH]) / block * block;
}

/* The next `count` slots as rows: in the pool itself, or widened into `wide`. Where to go on. */
INLINE Reader locate(const Step *s, Reader reader, int64_t count, const void *pool, int64_t size,
                     int64_t head, float *wide, const float **rows) {
    for (int64_t i = 0; i < count; i++) {
        while (reader.at == reader.run[1]) reader.run += 2, reader.at = 0;
        int64_t at = ((reader.run[0] + reader.at++) * s->kv_heads + head) * size;
        const uint16_t *from = (const uint16_t *)pool + at;
        if (!wide) {
            rows[i] = s->half ? (const void *)from : (const float *)pool + at;
            continue;
        }
        int64_t d = 0;
        for (; d + W <= size; d += W) store(wide + i * size + d, load_half(from + d));
        for (; d < size; d++) wide[i * size + d] = widened(from[d]);
        rows[i] = wide + i * size;
    }
    for (int64_t i = count; i % W; i++) rows[i] = rows[count - 1]; /* whole registers */
    return reader;
}

typedef struct {
    float query[MOST * LANES], out[MOST * LANES], scores[KEYS * LANES];
    float wide[2][KEYS * MOST];
    float position[LANES];
} __attribute__((aligned(64))) Scratch;

INLINE float *wide_keys(const Step *s, Scratch *x) {
    return s->half && !in_pairs(s) ? x->wide[0] : NULL;
}
INLINE float *wide_values(const Step *s, Scratch *x) { return s->half ? x->wide[1] : NULL; }

INLINE void cap(const Step *s, float *scores, int64_t count) {
    for (int64_t i = 0; i < count; i++) scores[i] = s->softcap * tanhf(scores[i] / s->softcap);
}

/* One KV head, query vectors `lane` to `lane + lanes` of a unit: their partial results. */
void plait_attend_rows(const Step *s, Scratch *x, const int64_t *unit, int64_t head, int64_t lane,
                       int64_t lanes);

/* All heads of a unit of one row. */
void plait_attend_row(const Step *s, Scratch *x, const int64_t *unit);

/* A layer's attention. 0, or 1 without memory. */
int plait_attend(const Step *s);

#endif
