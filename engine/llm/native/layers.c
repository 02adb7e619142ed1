/* All layers of a step and the head behind them, in one call.

   Called one by one from Python, the kernels of a layer cost a small model as much again as what
   they compute; and between any two of them other threads may take the interpreter, for
   milliseconds each time. The mathematics is that of lean.py: weights of norms lie in the products
   that follow, pairs that rotary embedding turns are neighbours. Rows go through products a block
   at a time, so that what lies between two products stays in the cache. Of the last layer, rows
   whose logits nobody wants are keys and values: all but the last token of a prompt. */

#include "kernels.h"
#include "step.h"

typedef struct {
    Product qkv, out, gate, up, down; /* their weights */
    int64_t window; /* 0: none */
    float scale;
    const void *query_norm, *key_norm; /* (size), or null */
} Layer;

typedef struct {
    Step step;    /* attention of any layer: `out` is (rows, heads, size) */
    Step last;    /* of the last one: of the rows to keep alone, numbered as if there were no others */
    Product head; /* its weight */
    int64_t layers, hidden, inner, block, kept;
    float epsilon;
    const Layer *layer;
    void *const *keys, *const *values; /* each layer's pool */
    const int64_t *slots, *keep;       /* of every row; rows whose logits are wanted, in order */
    const float *turn;                 /* (rows, size / 2, 2) */
    void *x, *asked, *normed, *fed;    /* (rows, hidden), (rows, all heads), (block, ..) twice */
    void *logits;                      /* (kept, V) */
} Decoder;

/* Row number `row` of rows of so many numbers. */
static void *at(const Decoder *d, const void *rows, int64_t row, int64_t numbers) {
    return (char *)rows + row * numbers * (d->step.half ? 2 : 4);
}

static int64_t width(const Decoder *d) {
    return (d->step.heads + 2 * d->step.kv_heads) * d->step.key_size;
}

static void multiply(const Decoder *d, Product product, const void *x, int64_t rows,
                     int64_t operation, const void *other, void *out) {
    product.rows = rows, product.x_row = product.words, product.operation = operation;
    product.x = x, product.other = other, product.out = out;
    product.threads = d->step.threads;
    plait_multiply(&product);
}

static void norm(const Decoder *d, const void *x, int64_t rows, void *out) {
    const int64_t size = d->hidden;
    plait_norm(&(Norm){rows, 1, size, size, 0, size, d->step.half, d->step.threads, d->epsilon,
                       x, NULL, out});
}

/* Norm of every head, in place. */
static void norm_heads(const Decoder *d, void *x, int64_t heads, const void *weight) {
    const Step *s = &d->step;
    plait_norm(&(Norm){s->rows, heads, s->key_size, width(d), s->key_size, width(d), s->half,
                       s->threads, d->epsilon, x, weight, x});
}

/* Queries, keys and values of some rows. */
static void ask(const Decoder *d, const Layer *layer, int64_t first, int64_t rows) {
    norm(d, at(d, d->x, first, d->hidden), rows, d->normed);
    multiply(d, layer->qkv, d->normed, rows, PLAIN, NULL, at(d, d->asked, first, width(d)));
}

/* Turns and stores what was asked. */
static void store_asked(const Decoder *d, const Layer *layer, void *keys, void *values) {
    const Step s = d->step;
    void *key = at(d, d->asked, s.heads, s.key_size);
    void *value = at(d, key, s.kv_heads, s.key_size);
    if (layer->query_norm) norm_heads(d, d->asked, s.heads, layer->query_norm);
    if (layer->key_norm) norm_heads(d, key, s.kv_heads, layer->key_norm);
    plait_turn(&(Turn){s.rows, s.heads + s.kv_heads, s.key_size, width(d), s.key_size, s.half,
                       s.threads, d->asked, d->turn});
    const int64_t one = s.half ? 2 : 4, bytes = s.kv_heads * s.key_size * one;
    plait_put(&(Put){s.rows, s.threads, bytes, bytes, width(d) * one, width(d) * one, key, value,
                     keys, values, d->slots});
}

/* Answers what was asked. */
static int attend(const Decoder *d, const Layer *layer, Step s, void *keys, void *values) {
    s.query = d->asked, s.keys = keys, s.values = values;
    s.query_row = width(d), s.query_head = s.key_size;
    s.window = layer->window, s.scale = layer->scale;
    return plait_attend(&s);
}

/* What attention found goes into some rows, then the feed-forward part. */
static void mix(const Decoder *d, const Layer *layer, int64_t first, int64_t rows) {
    void *x = at(d, d->x, first, d->hidden);
    const void *found = at(d, d->step.out, first, d->step.heads * d->step.value_size);
    multiply(d, layer->out, found, rows, ADD, x, x);
    norm(d, x, rows, d->normed);
    multiply(d, layer->gate, d->normed, rows, SILU, NULL, d->fed);
    multiply(d, layer->up, d->normed, rows, TIMES, d->fed, d->fed);
    multiply(d, layer->down, d->fed, rows, ADD, x, x);
}

/* Only the rows to keep are left, side by side: of x, and of what they asked. */
static void keep(const Decoder *d) {
    const int64_t one = d->step.half ? 2 : 4;
    for (int64_t i = 0; i < d->kept; i++) { /* none comes from before where it goes */
        memmove(at(d, d->x, i, d->hidden), at(d, d->x, d->keep[i], d->hidden), d->hidden * one);
        memmove(at(d, d->asked, i, width(d)), at(d, d->asked, d->keep[i], width(d)),
                width(d) * one);
    }
}

/* Logits of some rows. */
static void head(const Decoder *d, int64_t first, int64_t rows) {
    norm(d, at(d, d->x, first, d->hidden), rows, d->normed);
    multiply(d, d->head, d->normed, rows, PLAIN, NULL, at(d, d->logits, first, d->head.outputs));
}

/* 0, or 1 without memory. */
int plait_decode(const Decoder *d) {
    int64_t rows = d->step.rows;
    for (int64_t i = 0; i < d->layers; i++) {
        const Layer *layer = d->layer + i;
        const int last = i + 1 == d->layers;
        for (int64_t first = 0; first < rows; first += d->block)
            ask(d, layer, first, least(rows - first, d->block));
        store_asked(d, layer, d->keys[i], d->values[i]);
        if (last) keep(d), rows = d->kept;
        if (attend(d, layer, last ? d->last : d->step, d->keys[i], d->values[i])) return 1;
        for (int64_t first = 0; first < rows; first += d->block)
            mix(d, layer, first, least(rows - first, d->block));
    }
    for (int64_t first = 0; first < rows; first += d->block)
        head(d, first, least(rows - first, d->block));
    return 0;
}
