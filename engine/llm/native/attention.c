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

#include <math.h>
#include <stdlib.h>

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

/* The next `count` slots as rows: in the pool itself, or widened into `wide`. Where to go on. */
static Reader locate(const Step *s, Reader reader, int64_t count, const void *pool, int64_t size,
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

/* scores[i][lane] = scale * sum over d of keys[i][d] * query[d][lane], for `count` keys. Words are
   fp32 numbers or, with `pairs`, two bf16 numbers. */
INLINE void score(const float *query, const float *const *keys, int64_t words, float scale,
                  float *scores, const int count, const int vecs, const int pairs) {
    vec sum[TILES];
    for (int i = 0; i < count * vecs; i++) sum[i] = all(0);
    for (int64_t d = 0; d < words; d++) {
        vec own[4];
        for (int j = 0; j < vecs; j++) own[j] = held(load(query + (d * vecs + j) * W));
#pragma GCC unroll 16
        for (int i = 0; i < count; i++) {
            int32_t word;
            memcpy(&word, keys[i] + d, 4);
#pragma GCC unroll 4
            for (int j = 0; j < vecs; j++) {
                vec *place = sum + i * vecs + j;
                *place = pairs ? add_pairs(*place, word - (bits){0}, (bits)own[j])
                               : *place + all(keys[i][d]) * own[j];
            }
        }
    }
    for (int i = 0; i < count * vecs; i++) store(scores + i * W, sum[i] * scale);
}

static void cap(const Step *s, float *scores, int64_t count) {
    for (int64_t i = 0; i < count; i++) scores[i] = s->softcap * tanhf(scores[i] / s->softcap);
}

/* out[d][lane] = out[d][lane] * kept[lane] + sum over i of weights[i][lane] * values[i][d]. */
INLINE void mix(const float *weights, const float *const *values, int64_t keys, int64_t d,
                const vec *kept, float *out, const int count, const int vecs) {
    vec sum[TILES];
    for (int i = 0; i < count * vecs; i++) sum[i] = load(out + d * vecs * W + i * W) * kept[i % vecs];
    for (int64_t k = 0; k < keys; k++) {
        vec weight[4];
        for (int j = 0; j < vecs; j++) weight[j] = held(load(weights + (k * vecs + j) * W));
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vecs; j++) sum[i * vecs + j] += all(values[k][d + i]) * weight[j];
    }
    for (int i = 0; i < count * vecs; i++) store(out + d * vecs * W + i * W, sum[i]);
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

/* Which of a block's scores no row may see become -inf. Positions are whole numbers below 2^24. */
INLINE void hide(const Step *s, const Scratch *x, float *scores, int64_t first, int64_t keys,
                 const int vecs) {
    for (int j = 0; j < vecs; j++) {
        vec own = load(x->position + j * W);
        for (int64_t i = 0; i < keys; i++) {
            vec at = all((float)(first + i));
            bits hidden = at > own;
            if (s->window) hidden |= at <= own - (float)s->window;
            float *place = scores + (i * vecs + j) * W;
            store(place, pick(hidden, all(NONE), load(place)));
        }
    }
}

/* One KV head, `lanes` query vectors of a unit: their partial results. */
INLINE void attend(const Step *s, Scratch *x, const int64_t *unit, int64_t head, int64_t lane,
                   int64_t lanes, const int vecs) {
    const int64_t group = s->heads / s->kv_heads, width = vecs * W;
    const int64_t words = words_of(s);
    const int count = TILES / vecs, pairs = in_pairs(s);
    float low = INFINITY, high = -INFINITY; /* the rows' positions */
    for (int64_t m = 0; m < width; m++) {
        int64_t vector = lane + (m < lanes ? m : 0), row = unit[ROW] + vector / group;
        int64_t from = row * s->query_row + (head * group + vector % group) * s->query_head;
        for (int64_t d = 0; d < words; d++)
            x->query[d * width + m] = word(s, s->query, from, d);
        float position = x->position[m] = (float)s->position[row];
        low = position < low ? position : low;
        high = position > high ? position : high;
    }
    memset(x->out, 0, sizeof(float) * s->value_size * width);
    vec top[4], total[4];
    for (int j = 0; j < vecs; j++) top[j] = all(-1e30f), total[j] = all(0);
    Reader reader = {s->run + 2 * unit[RUN], 0};
    const float *key[KEYS], *value[KEYS];
    for (int64_t at = 0; at < unit[LENGTH]; at += KEYS) {
        int64_t keys = least(unit[LENGTH] - at, KEYS);
        int64_t first = unit[POSITION] + at;
        if ((float)first > high) break;
        locate(s, reader, keys, s->keys, s->key_size, head, wide_keys(s, x), key);
        reader = locate(s, reader, keys, s->values, s->value_size, head, wide_values(s, x), value);
        int64_t i = 0;
        for (int one; i < keys; i += one ? 1 : count) {
            float *scores = x->scores + i * width;
            one = i + count > keys;
            if (pairs) {
                if (one) score(x->query, key + i, words, s->scale, scores, 1, vecs, 1);
                else score(x->query, key + i, words, s->scale, scores, count, vecs, 1);
            } else {
                if (one) score(x->query, key + i, words, s->scale, scores, 1, vecs, 0);
                else score(x->query, key + i, words, s->scale, scores, count, vecs, 0);
            }
        }
        if (s->softcap) cap(s, x->scores, keys * width);
        if ((float)(first + keys - 1) > low || (s->window && (float)first <= high - s->window))
            hide(s, x, x->scores, first, keys, vecs);
        vec kept[4];
        for (int j = 0; j < vecs; j++) {
            vec peak = top[j], sum = all(0);
            for (i = 0; i < keys; i++) peak = larger(load(x->scores + (i * vecs + j) * W), peak);
            for (i = 0; i < keys; i++) {
                float *place = x->scores + (i * vecs + j) * W;
                vec weight = exponential(load(place) - peak);
                store(place, weight);
                sum += weight;
            }
            kept[j] = exponential(top[j] - peak);
            total[j] = total[j] * kept[j] + sum;
            top[j] = peak;
        }
        int64_t d = 0;
        for (; d + count <= s->value_size; d += count)
            mix(x->scores, value, keys, d, kept, x->out, count, vecs);
        for (; d < s->value_size; d++) mix(x->scores, value, keys, d, kept, x->out, 1, vecs);
    }
    for (int64_t m = 0; m < lanes; m++) {
        int64_t vector = lane + m, row = unit[LEVEL] * s->rows + unit[ROW] + vector / group;
        int64_t place = row * s->heads + head * group + vector % group;
        float sum = total[m / W][m % W], share = sum == 0 ? 0 : 1 / sum;
        float *out = s->outs + place * s->value_size;
        s->lses[place] = sum == 0 ? NONE : top[m / W][m % W] + logf(sum);
        for (int64_t d = 0; d < s->value_size; d++) out[d] = x->out[d * width + m] * share;
    }
}

/* out[d] = out[d] * kept + sum over k of weights[k] * values[k][d], for `count` registers. */
INLINE void mix_some(const float *weights, const float *const *values, int64_t keys, int64_t d,
                     float kept, float *out, const int count) {
    vec sum[4];
    for (int i = 0; i < count; i++) sum[i] = load(out + d + i * W) * kept;
    for (int64_t k = 0; k < keys; k++) {
        vec weight = held(all(weights[k]));
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) sum[i] += load(values[k] + d + i * W) * weight;
    }
    for (int i = 0; i < count; i++) store(out + d + i * W, sum[i]);
}

APART void mix_row(const float *weights, const float *const *values, int64_t keys, float kept,
                   float *out, int64_t size) {
    int64_t d = 0;
    for (; d + 4 * W <= size; d += 4 * W) mix_some(weights, values, keys, d, kept, out, 4);
    for (; d < size; d += W) mix_some(weights, values, keys, d, kept, out, 1);
}

/* Sums of W registers, side by side: neighbours are added until one number of each is left. */
INLINE vec sums(vec *part) {
#pragma GCC unroll 4
    for (int count = W / 2; count; count /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < count; i++)
            part[i] = chosen(part[2 * i], part[2 * i + 1], EVEN) +
                      chosen(part[2 * i], part[2 * i + 1], ODD);
    return part[0];
}

INLINE void score_words(const float *query, const float *const *keys, int64_t count,
                        int64_t words, float scale, float *scores, const int pairs) {
    for (int64_t i = 0; i < count; i += W) {
        vec part[W];
#pragma GCC unroll 16
        for (int k = 0; k < W; k++) part[k] = all(0);
        for (int64_t d = 0; d < words; d += W) {
            vec own = held(load(query + d));
#pragma GCC unroll 16
            for (int k = 0; k < W; k++) {
                vec key = load(keys[i + k] + d);
                part[k] = pairs ? add_pairs(part[k], (bits)key, (bits)own) : part[k] + key * own;
            }
        }
        store(scores + i, sums(part) * scale);
    }
}

/* scores[i] = scale * sum over d of keys[i][d] * query[d], for whole registers of keys. */
APART void score_row(const Step *s, const float *query, const float *const *keys, int64_t count,
                     float *scores) {
    if (in_pairs(s)) score_words(query, keys, count, words_of(s), s->scale, scores, 1);
    else score_words(query, keys, count, words_of(s), s->scale, scores, 0);
}

/* Scores to weights, of whole registers. How much of the sums before them is kept. */
APART float weigh(float *scores, int64_t count, float *top, float *total) {
    vec most = all(*top), sum = all(0);
    for (int64_t i = 0; i < count; i += W) most = larger(load(scores + i), most);
    float peak = most[0];
    for (int j = 1; j < W; j++) peak = most[j] <= peak ? peak : most[j];
    for (int64_t i = 0; i < count; i += W) {
        vec weight = exponential(load(scores + i) - peak);
        store(scores + i, weight);
        sum += weight;
    }
    float kept = expf(*top - peak);
    *top = peak, *total *= kept;
    for (int j = 0; j < W; j++) *total += sum[j];
    return kept;
}

/* A single row has few query vectors, which would leave most lanes empty: here the numbers of a
   head lie along the lanes, and all heads go side by side, as keys and values do in memory. */
APART void attend_row(const Step *s, Scratch *x, const int64_t *unit) {
    const int64_t group = s->heads / s->kv_heads, row = unit[ROW], own = s->position[row];
    const int64_t words = words_of(s), value_size = s->value_size;
    float top[HEADS], total[HEADS];
    for (int64_t h = 0; h < s->heads; h++) {
        int64_t from = row * s->query_row + h * s->query_head;
        for (int64_t d = 0; d < words; d++) x->query[h * words + d] = word(s, s->query, from, d);
        top[h] = -1e30f, total[h] = 0;
    }
    memset(x->out, 0, sizeof(float) * s->heads * value_size);
    Reader reader = {s->run + 2 * unit[RUN], 0}, next = reader;
    const float *key[FEW], *value[FEW];
    for (int64_t at = 0; at < unit[LENGTH]; at += FEW, reader = next) {
        int64_t keys = least(unit[LENGTH] - at, FEW), width = (keys + W - 1) / W * W;
        int64_t unseen = s->window ? own - s->window + 1 - unit[POSITION] - at : 0;
        for (int64_t h = 0; h < s->heads; h++) {
            if (h % group == 0) {
                locate(s, reader, keys, s->keys, s->key_size, h / group, wide_keys(s, x), key);
                next = locate(s, reader, keys, s->values, value_size, h / group, wide_values(s, x),
                              value);
            }
            score_row(s, x->query + h * words, key, width, x->scores);
            if (s->softcap) cap(s, x->scores, keys);
            for (int64_t i = 0; i < least(unseen, keys); i++) x->scores[i] = NONE;
            for (int64_t i = keys; i < width; i++) x->scores[i] = NONE;
            float kept = weigh(x->scores, width, top + h, total + h), *out = x->out + h * value_size;
            mix_row(x->scores, value, keys, kept, out, value_size);
        }
    }
    for (int64_t h = 0; h < s->heads; h++) {
        int64_t place = (unit[LEVEL] * s->rows + row) * s->heads + h;
        float share = total[h] == 0 ? 0 : 1 / total[h];
        s->lses[place] = total[h] == 0 ? NONE : top[h] + logf(total[h]);
        for (int64_t d = 0; d < value_size; d++)
            s->outs[place * value_size + d] = x->out[h * value_size + d] * share;
    }
}

/* Whether a unit is done as a single row: in one task, else in one for each KV head and LANES
   query vectors. */
INLINE int is_row(const Step *s, const int64_t *unit) {
    return unit[ROWS] == 1 && s->heads <= HEADS && s->heads / s->kv_heads <= W / 2 &&
           words_of(s) % W == 0 && s->value_size % W == 0;
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
        attend_row(s, x, unit);
        return;
    }
    int64_t head = task % s->kv_heads, lane = task / s->kv_heads * LANES;
    int64_t lanes = least(unit[ROWS] * (s->heads / s->kv_heads) - lane, LANES);
    if (lanes > 2 * W) attend(s, x, unit, head, lane, lanes, 4);
    else if (lanes > W) attend(s, x, unit, head, lane, lanes, 2);
    else attend(s, x, unit, head, lane, lanes, 1);
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
