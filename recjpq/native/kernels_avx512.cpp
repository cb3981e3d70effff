// AVX-512 VBMI: a table of 256 bytes is four registers, 64 lookups are two permutes of register pairs and a blend.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels_generic.h"
#include "kernels_sets.h"

#define RECJPQ_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2")))

namespace recjpq {
namespace {

struct Table256 {
  __m512i row[4];
};

RECJPQ_TARGET RECJPQ_INLINE __m512i load(const uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

RECJPQ_TARGET RECJPQ_INLINE Table256 load_table(const uint8_t* table) {
  return {{load(table), load(table + 64), load(table + 128), load(table + 192)}};
}

RECJPQ_TARGET RECJPQ_INLINE __m512i lookup(const Table256& table, __m512i index) {
  const __m512i low = _mm512_permutex2var_epi8(table.row[0], index, table.row[1]);  // by the lowest 7 bits
  const __m512i high = _mm512_permutex2var_epi8(table.row[2], index, table.row[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
}

// table16[index], for indices below 16.
RECJPQ_TARGET RECJPQ_INLINE __m512i shuffle(const uint8_t* table16, __m512i index) {
  const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table16));
  return _mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, entries), index);
}

RECJPQ_TARGET void bound(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds) {
  const __m512i half = _mm512_set1_epi8(15);
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, least += kBandSets) {
    const __m512i first = load(presence), second = load(presence + kLanes);
    const __m512i a = _mm512_min_epu8(shuffle(least, _mm512_and_si512(first, half)),
                                      shuffle(least + 16, _mm512_and_si512(_mm512_srli_epi16(first, 4), half)));
    const __m512i b = _mm512_min_epu8(shuffle(least + 32, _mm512_and_si512(second, half)),
                                      shuffle(least + 48, _mm512_and_si512(_mm512_srli_epi16(second, 4), half)));
    sum = _mm512_adds_epu8(sum, _mm512_min_epu8(a, b));
  }
  _mm512_storeu_si512(bounds, sum);
}

// kBlocks at once, so that a split's table is loaded once for all of them.
template <int kBlocks>
RECJPQ_TARGET RECJPQ_INLINE void scan_blocks(const uint8_t* blocks, const ScanTable& table, __m512i limits,
                                            uint64_t* masks) {
  const size_t stride = block_bytes(table.num_splits);
  __m512i sums[kBlocks];
  for (int b = 0; b < kBlocks; ++b) sums[b] = _mm512_setzero_si512();
  for (int j = 0; j < table.num_splits; ++j) {
    const Table256 row = load_table(table.items + j * kSubIds);
    for (int b = 0; b < kBlocks; ++b) {
      sums[b] = _mm512_adds_epu8(sums[b], lookup(row, load(blocks + b * stride + j * kLanes)));
    }
  }
  for (int b = 0; b < kBlocks; ++b) masks[b] = _mm512_cmple_epu8_mask(sums[b], limits);
}

RECJPQ_TARGET void scan(const uint8_t* blocks, size_t count, const ScanTable& table, uint8_t limit, uint64_t* masks) {
  constexpr int kTogether = 8;
  const __m512i limits = _mm512_set1_epi8(static_cast<char>(limit));
  const size_t stride = block_bytes(table.num_splits);
  for (; count >= kTogether; count -= kTogether, blocks += kTogether * stride, masks += kTogether) {
    scan_blocks<kTogether>(blocks, table, limits, masks);
  }
  for (; count; --count, blocks += stride, ++masks) scan_blocks<1>(blocks, table, limits, masks);
}

RECJPQ_TARGET uint64_t sift(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  const __m512i half = _mm512_set1_epi8(15);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 1; i < table.num_splits; ++i) {
    const int j = table.order[i];
    const __m512i rows = _mm512_and_si512(_mm512_srli_epi16(load(block + j * kLanes), 4), half);
    sum = _mm512_adds_epu8(sum, shuffle(table.rows + j * kRows, rows));
  }
  const int first = table.order[0];
  sum = _mm512_adds_epu8(sum, lookup(load_table(table.items + first * kSubIds), load(block + first * kLanes)));
  return _mm512_cmple_epu8_mask(sum, _mm512_set1_epi8(static_cast<char>(limit)));
}

RECJPQ_TARGET void row_maxima(const float* entries, float* maxima) { generic::row_maxima(entries, maxima); }

RECJPQ_TARGET void quantise(const float* entries, int count, float largest, float scale, uint8_t* deficits) {
  generic::quantise(entries, count, largest, scale, deficits);
}

RECJPQ_TARGET uint64_t at_most(const uint8_t* values, uint8_t limit) {
  return _mm512_cmple_epu8_mask(load(values), _mm512_set1_epi8(static_cast<char>(limit)));
}

}  // namespace

const Kernels kAvx512Kernels = {"avx512", row_maxima, quantise, bound, at_most, sift, scan};

}  // namespace recjpq

#endif
