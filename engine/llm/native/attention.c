/* Attention of one step over the tree, on a CPU: all its items, all rows, one call a layer.

   torch has no operator for this: its flash operator takes one rectangle of rows and slots at a
   time, spends more on small ones than they contain, and widens 16-bit numbers slowly. What is
   different here:

   - Query vectors lie along the lanes of a vector register: all heads of a group, of all rows of
     an item. Keys and values are then read number by number, each broadcast to all lanes, so that
     they need not be transposed or copied, wherever in the pool they lie; maxima and sums of the
     softmax go from register to register, never across one.
   - An item is a range of rows and a list of runs of slots. What a row may see follows from
     positions alone (not ahead of it, not behind its window), so chunks on themselves, windows
     and shared prefixes are one case.
   - Items are units of work, cut into tasks of one KV head and up to LANES query vectors, which
     threads take as they get free. Every task leaves partial results (output, log-sum-exp) in
     places of its own, and the merge reads each row's places in their order: the result does not
     depend on which thread did what.

   Softmax by blocks as in FlashAttention (Dao et al., 2022); merging of parts as in Cascade and
   Hydragen (Juravsky et al., 2024). Numbers are added in fp32 whatever the pool's type. */

#include <stdlib.h>

#include "step.h"

/* Whether a unit is done as a single row: in one task, else in one for each KV head and LANES
   query vectors. */
INLINE int is_row(const Step *s, const int64_t *unit) {
    const int64_t size = words_of(s) > s->value_size ? words_of(s) : s->value_size;
    return unit[ROWS] == 1 && s->heads <= HEADS && s->heads * size <= MOST * LANES &&
           s->heads / s->kv_heads <= W / 2 && words_of(s) % W == 0 && s->value_size % W == 0;
}

INLINE int64_t tasks_of(const Step *s, const int64_t *unit) {
    if (is_row(s, unit)) return 1;
    return (unit[ROWS] * (s->heads / s->kv_heads) + LANES - 1) / LANES * s->kv_heads;
}

/* The compiler must not know where it is from, or looks it up in every loop. */
static Scratch *own_scratch(void) {
    static _Thread_local Scratch own;
    Scratch *x = &own;
    __asm__("" : "+r"(x));
    return x;
}

static void run_task(const Step *s, const int64_t *unit, int64_t task) {
    Scratch *x = own_scratch();
    if (is_row(s, unit)) {
        plait_attend_row(s, x, unit);
        return;
    }
    int64_t head = task % s->kv_heads, lane = task / s->kv_heads * LANES;
    int64_t lanes = least(unit[ROWS] * (s->heads / s->kv_heads) - lane, LANES);
    plait_attend_rows(s, x, unit, head, lane, lanes);
}

/* A row's head: the mean of its parts, weighted by their summed exponentials. A level that a row
   does not use has lse -inf. A sink is one more part, whose output is zero. With one level
   alone, lse need not be known. */
static void merge(const Step *s, int64_t row, int64_t head) {
    const int64_t place = row * s->heads + head, level = s->rows * s->heads;
    const int alone = s->levels == 1 && !s->sinks;
    float top = s->sinks ? s->sinks[head] : -1e30f, total = alone, out[MOST] = {0};
    for (int64_t i = 0; i < s->levels; i++) {
        float lse = s->lses[i * level + place];
        top = lse <= top ? top : lse;
    }
    if (s->sinks) total = expf(s->sinks[head] - top);
    for (int64_t i = 0; i < s->levels; i++) {
        float weight = alone ? 1 : expf(s->lses[i * level + place] - top);
        const float *part = s->outs + (i * level + place) * s->value_size;
        if (weight == 0) continue;
        if (!alone) total += weight;
        for (int64_t d = 0; d < s->value_size; d++) out[d] += weight * part[d];
    }
    const float share = 1 / total;
    for (int64_t d = 0; d < s->value_size; d++) out[d] *= share;
    if (!s->half) {
        memcpy((float *)s->out + place * s->value_size, out, s->value_size * sizeof(float));
        return;
    }
    uint16_t narrow[MOST];
    for (int64_t d = 0; d < s->value_size; d += W) store_half(narrow + d, load(out + d));
    memcpy((uint16_t *)s->out + place * s->value_size, narrow, s->value_size * sizeof(uint16_t));
}

/* Fills the levels that the units name, then merges all levels. 0, or 1 without memory. */
int plait_attend(const Step *s) {
    int64_t *ends = malloc((s->units + 1) * sizeof(int64_t)); /* tasks before each unit */
    if (!ends) return 1;
    ends[0] = 0;
    for (int64_t i = 0; i < s->units; i++)
        ends[i + 1] = ends[i] + tasks_of(s, s->unit + i * UNIT);
#pragma omp parallel num_threads(s->threads)
    {
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < ends[s->units]; task++) {
            int64_t unit = 0, last = s->units - 1;
            while (unit < last) {
                int64_t middle = (unit + last + 1) / 2;
                if (ends[middle] <= task) unit = middle;
                else last = middle - 1;
            }
            run_task(s, s->unit + unit * UNIT, task - ends[unit]);
        }
#pragma omp for schedule(static)
        for (int64_t at = 0; at < s->rows * s->heads; at++) merge(s, at / s->heads, at % s->heads);
    }
    free(ends);
    return 0;
}
