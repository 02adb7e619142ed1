/* A unit of many rows: query vectors lie along the lanes. */

#include "step.h"

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

INLINE void attend(const Step *s, Scratch *x, const int64_t *unit, int64_t head, int64_t lane,
                   int64_t lanes, const int vecs) {
    const int64_t group = s->heads / s->kv_heads, width = vecs * W;
    const int64_t words = words_of(s);
    const int count = TILES / vecs, pairs = in_pairs(s);
    int64_t low = INT64_MAX, high = -1; /* the rows' positions */
    for (int64_t m = 0; m < width; m++) {
        int64_t vector = lane + (m < lanes ? m : 0), row = unit[ROW] + vector / group;
        int64_t from = row * s->query_row + (head * group + vector % group) * s->query_head;
        for (int64_t d = 0; d < words; d++)
            x->query[d * width + m] = word(s, s->query, from, d);
        x->position[m] = (float)s->position[row];
        low = least(low, s->position[row]);
        high = high < s->position[row] ? s->position[row] : high;
    }
    memset(x->out, 0, sizeof(float) * s->value_size * width);
    vec top[4], total[4];
    for (int j = 0; j < vecs; j++) top[j] = all(-1e30f), total[j] = all(0);
    const int64_t begin = unseen(s, unit, low, KEYS);
    Reader reader = advanced((Reader){s->run + 2 * unit[RUN], 0}, begin);
    const float *key[KEYS], *value[KEYS];
    for (int64_t at = begin; at < unit[LENGTH]; at += KEYS) {
        int64_t keys = least(unit[LENGTH] - at, KEYS);
        int64_t first = unit[POSITION] + at;
        if (first > high) break;
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
        if (first + keys - 1 > low || (s->window && first <= high - s->window))
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

void plait_attend_rows(const Step *s, Scratch *x, const int64_t *unit, int64_t head, int64_t lane,
                       int64_t lanes) {
    if (lanes > 2 * W) attend(s, x, unit, head, lane, lanes, 4);
    else if (lanes > W) attend(s, x, unit, head, lane, lanes, 2);
    else attend(s, x, unit, head, lane, lanes, 1);
}
