/* Products of some rows by a weight, on a CPU: out = operation(x W^T + bias).

   The rows of a decode step are few. What a library's product does for thousands of rows, copying
   and choosing among kernels, is then a large part of its time; and reading the weight from memory,
   which takes about as long as multiplying with it, should go on meanwhile. What is different here:

   - The weight lies in panels of COLS outputs, as it is read: number by number of the input, all
     COLS beside each other. A tile of ROWS x COLS sums stays in registers. While one panel is
     multiplied, the next is asked for.
   - A word is one fp32 number, or two neighbouring bf16 numbers where the processor multiplies
     pairs: but for that one instruction both types go the same way.
   - Every sum is added up in the order of the inputs, however many rows there are: what a row gets
     does not depend on the batch it is in.

   The way of tiles and panels is that of Goto and van de Geijn (2008). */

#include "kernels.h"
#include "vectors.h"

enum { PANEL = 3, COLS = PANEL * W, TALL = W / 2 }; /* a tile: TALL rows of PANEL registers */
enum { BLOCK = 1024 };  /* words of the input at a time: a block of a panel stays in the cache */
enum { GROUP = 64, SMALL = 2 * TALL }; /* rows of a task: at most, and where panels are few */

/* sums[row][column] (+)= x W^T for `rows` rows and one block of a panel. `next` is asked for. */
INLINE void tile(const int32_t *x, int64_t x_row, const int32_t *weight, int64_t words,
                 const int32_t *next, int first, float *sums, const int rows, const int half) {
    vec sum[TALL * PANEL];
#pragma GCC unroll 24
    for (int i = 0; i < rows * PANEL; i++) sum[i] = first ? all(0) : load(sums + i * W);
    for (int64_t k = 0; k < words; k++) {
        vec own[PANEL];
#pragma GCC unroll 3
        for (int j = 0; j < PANEL; j++) own[j] = held(load((const float *)weight + k * COLS + j * W));
        __builtin_prefetch(next + k * W, 0, 2);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            int32_t word = x[i * x_row + k];
            float number;
            memcpy(&number, &word, 4);
#pragma GCC unroll 3
            for (int j = 0; j < PANEL; j++) {
                vec *place = sum + i * PANEL + j;
                *place = half ? add_pairs(*place, word - (bits){0}, (bits)own[j])
                              : *place + all(number) * own[j];
            }
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < rows * PANEL; i++) store(sums + i * W, sum[i]);
}

#define TILE(n) case n: tile(x, x_row, weight, words, next, first, sums, n, half); break

INLINE void any_tile(const int32_t *x, int64_t x_row, const int32_t *weight, int64_t words,
                     const int32_t *next, int first, float *sums, int64_t rows, const int half) {
    switch (least(rows, TALL)) {
        TILE(1); TILE(2); TILE(3); TILE(4);
#ifdef __AVX512F__
        TILE(5); TILE(6); TILE(7); TILE(8);
#endif
    }
}

APART void whole(const int32_t *x, int64_t x_row, const int32_t *weight, int64_t words,
                 const int32_t *next, int first, float *sums, int64_t rows) {
    any_tile(x, x_row, weight, words, next, first, sums, rows, 0);
}

APART void halves(const int32_t *x, int64_t x_row, const int32_t *weight, int64_t words,
                  const int32_t *next, int first, float *sums, int64_t rows) {
    if (HALVES) any_tile(x, x_row, weight, words, next, first, sums, rows, 1);
}

/* A register of `other`. */
INLINE vec other_of(const Product *p, const void *other, int64_t at) {
    return p->half ? load_half((const uint16_t *)other + at) : load((const float *)other + at);
}

/* A row's sums of one panel, with what is done to them while they are written. */
static void finish(const Product *p, int64_t row, int64_t first, const float *sums) {
    const int64_t count = least(p->outputs - first, COLS), size = p->half ? 2 : 4;
    char edge[COLS * 4] = {0}, *out = (char *)p->out + (row * p->outputs + first) * size;
    const char *other = p->other ? (const char *)p->other + (row * p->outputs + first) * size : edge;
    char *to = count == COLS ? out : edge; /* the last panel may be wider than the result */
    if (count < COLS && p->other) other = memcpy(edge, other, count * size);
    for (int64_t i = 0; i < COLS; i += W) {
        vec x = load(sums + i);
        if (p->bias) x += load(p->bias + first + i);
        if (p->operation == SILU) {
            vec most = all(88.0f); /* e^88 is still a number */
            x = x / (1.0f + exponential(pick(-x > most, most, -x)));
        }
        if (p->operation == ADD) x += other_of(p, other, i);
        if (p->operation == TIMES) x *= other_of(p, other, i);
        if (p->half) store_half((uint16_t *)to + i, x);
        else store((float *)to + i, x);
    }
    if (to == edge) memcpy(out, edge, count * size);
}

/* One panel for some rows. */
static void run(const Product *p, int64_t panel, int64_t first, int64_t rows) {
    float sums[GROUP * COLS] __attribute__((aligned(64)));
    for (int64_t at = 0; at < p->words; at += BLOCK) {
        const int64_t words = least(p->words - at, BLOCK);
        const int32_t *weight = p->weight + (panel * p->words + at) * COLS;
        for (int64_t row = 0; row < rows; row += TALL) {
            /* Each of the first tiles asks for a part of the next block. */
            const int32_t *next = weight + words * (COLS + least(row / TALL, PANEL - 1) * W);
            (p->half ? halves : whole)(p->x + (first + row) * p->x_row + at, p->x_row, weight, words,
                                       next, at == 0, sums + row * COLS, rows - row);
        }
    }
    for (int64_t row = 0; row < rows; row++)
        finish(p, first + row, panel * COLS, sums + row * COLS);
}

/* Whether products of bf16 numbers are possible here. */
int plait_multiplies_halves(void) { return HALVES; }

/* Columns of a panel. */
int plait_columns(void) { return COLS; }

void plait_multiply(const Product *p) {
    int64_t panels = (p->outputs + COLS - 1) / COLS;
    int64_t tasks = panels * ((p->rows + GROUP - 1) / GROUP);
    int64_t most = tasks < 8 * p->threads ? SMALL : GROUP;
    int64_t groups = (p->rows + most - 1) / most;
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int64_t task = 0; task < panels * groups; task++) {
        int64_t first = task % groups * most;
        run(p, task / groups, first, least(p->rows - first, most));
    }
}
