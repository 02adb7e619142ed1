/* A unit of one row has few query vectors, which would leave most lanes empty: here the numbers of a
   head lie along the lanes, and all heads go side by side, as keys and values do in memory. */

#include "step.h"

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

void plait_attend_row(const Step *s, Scratch *x, const int64_t *unit) {
    const int64_t group = s->heads / s->kv_heads, row = unit[ROW], own = s->position[row];
    const int64_t words = words_of(s), value_size = s->value_size;
    float top[HEADS], total[HEADS];
    for (int64_t h = 0; h < s->heads; h++) {
        int64_t from = row * s->query_row + h * s->query_head;
        for (int64_t d = 0; d < words; d++) x->query[h * words + d] = word(s, s->query, from, d);
        top[h] = -1e30f, total[h] = 0;
    }
    memset(x->out, 0, sizeof(float) * s->heads * value_size);
    const int64_t begin = unseen(s, unit, own, FEW);
    Reader reader = advanced((Reader){s->run + 2 * unit[RUN], 0}, begin), next = reader;
    const float *key[FEW], *value[FEW];
    for (int64_t at = begin; at < unit[LENGTH]; at += FEW, reader = next) {
        int64_t keys = least(unit[LENGTH] - at, FEW), width = (keys + W - 1) / W * W;
        int64_t hidden = s->window ? own - s->window + 1 - unit[POSITION] - at : 0;
        for (int64_t h = 0; h < s->heads; h++) {
            if (h % group == 0) {
                locate(s, reader, keys, s->keys, s->key_size, h / group, wide_keys(s, x), key);
                next = locate(s, reader, keys, s->values, value_size, h / group, wide_values(s, x),
                              value);
            }
            score_row(s, x->query + h * words, key, width, x->scores);
            if (s->softcap) cap(s, x->scores, keys);
            for (int64_t i = 0; i < least(hidden, keys); i++) x->scores[i] = NONE;
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
