/* Hand-written AVX-512 reference for benchmarks/tree_kernel.py: bins by a branchless binary search over 8 rows at once,
 * then 64 rows walk each tree with gathers. Numerical splits without NaN, at most 255 thresholds a feature, 4,095 nodes a
 * tree and 4,096 features. Nodes are words [left child:12 | bin:8 | feature:12], as in gather_pack of the benchmark.
 *
 *   cc -O3 -march=native -shared -fPIC gather_avx512.c -o gather_avx512.so
 */
#include <immintrin.h>
#include <stdint.h>

enum { LANES = 16, GROUPS = 4, BLOCK = LANES * GROUPS };

/* bins[feature][64]: the number of cuts below each value, for 64 rows of a row-major matrix. */
static void bin_rows(const double *rows, int64_t features, const double *cuts, const int32_t *offsets, int32_t *bins) {
    for (int64_t f = 0; f < features; f++) {
        const double *own = cuts + offsets[f];
        const int32_t count = offsets[f + 1] - offsets[f];
        if (!count) continue;
        for (int g = 0; g < BLOCK; g += 8) {
            const __m256i step = _mm256_mullo_epi32(_mm256_set1_epi32((int32_t)features), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            const __m512d x = _mm512_i32gather_pd(step, rows + g * features + f, 8);
            __m256i at = _mm256_setzero_si256();
            int32_t left = count;
            while (left > 1) {
                const int32_t half = left >> 1;
                const __m512d cut = _mm512_i32gather_pd(_mm256_add_epi32(at, _mm256_set1_epi32(half - 1)), own, 8);
                at = _mm256_mask_add_epi32(at, _mm512_cmp_pd_mask(cut, x, _CMP_LT_OQ), at, _mm256_set1_epi32(half));
                left -= half;
            }
            const __m512d cut = _mm512_i32gather_pd(at, own, 8);
            at = _mm256_mask_add_epi32(at, _mm512_cmp_pd_mask(cut, x, _CMP_LT_OQ), at, _mm256_set1_epi32(1));
            _mm256_storeu_si256((__m256i *)(bins + f * BLOCK + g), at);
        }
    }
}

/* out[row] = the sum over the trees, for whole blocks of 64 rows. */
void gather_score(const double *rows, int64_t n_rows, int64_t features, const double *cuts, const int32_t *offsets,
                  const int32_t *words, const int32_t *starts, const int32_t *depths, int64_t trees,
                  const double *leaves, int32_t *bins, double *out) {
    const __m512i byte = _mm512_set1_epi32(0xFF), low = _mm512_set1_epi32(0xFFF), one = _mm512_set1_epi32(1);
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int64_t row = 0; row + BLOCK <= n_rows; row += BLOCK) {
        bin_rows(rows + row * features, features, cuts, offsets, bins);
        __m512d sums[BLOCK / 8];
        for (int i = 0; i < BLOCK / 8; i++) sums[i] = _mm512_setzero_pd();
        for (int64_t t = 0; t < trees; t++) {
            const int32_t *own = words + starts[t];
            __m512i at[GROUPS];
            for (int g = 0; g < GROUPS; g++) at[g] = _mm512_setzero_si512();
            for (int32_t level = 0; level < depths[t]; level++) {
                for (int g = 0; g < GROUPS; g++) {
                    const __m512i word = _mm512_i32gather_epi32(at[g], own, 4);
                    const __m512i column = _mm512_add_epi32(_mm512_slli_epi32(_mm512_and_si512(word, low), 6), lane);
                    const __m512i bin = _mm512_i32gather_epi32(column, bins + g * LANES, 4);
                    const __m512i cut = _mm512_and_si512(_mm512_srli_epi32(word, 12), byte);
                    const __m512i left = _mm512_srli_epi32(word, 20);
                    at[g] = _mm512_mask_add_epi32(left, _mm512_cmpgt_epi32_mask(bin, cut), left, one);
                }
            }
            for (int g = 0; g < GROUPS; g++) {
                const __m512d a = _mm512_i32gather_pd(_mm512_castsi512_si256(at[g]), leaves + starts[t], 8);
                const __m512d b = _mm512_i32gather_pd(_mm512_extracti64x4_epi64(at[g], 1), leaves + starts[t], 8);
                sums[2 * g] = _mm512_add_pd(sums[2 * g], a);
                sums[2 * g + 1] = _mm512_add_pd(sums[2 * g + 1], b);
            }
        }
        for (int i = 0; i < BLOCK / 8; i++) _mm512_storeu_pd(out + row + 8 * i, sums[i]);
    }
}
