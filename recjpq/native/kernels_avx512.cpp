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

RECJPQ_TARGET void bound(const uint8_t* presence, const uint8_t* subsets, int num_splits, uint8_t* bounds) {
  __m512i sum = _mm512_setzero_si512();
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, subsets += 2 * kBandSets) {
    const __m512i low = lookup(load_table(subsets), load(presence));
    const __m512i high = lookup(load_table(subsets + kBandSets), load(presence + kLanes));
    sum = _mm512_adds_epu8(sum, _mm512_min_epu8(low, high));
  }
  _mm512_storeu_si512(bounds, sum);
}

// kBlocks at once, so that a split's table is loaded once for all of them.
template <int kBlocks>
RECJPQ_TARGET RECJPQ_INLINE void scan_blocks(const uint8_t* blocks, const uint8_t* deficits, int num_splits,
                                            __m512i limits, uint64_t* masks) {
  const size_t stride = block_bytes(num_splits);
  __m512i sums[kBlocks];
  for (int b = 0; b < kBlocks; ++b) sums[b] = _mm512_setzero_si512();
  for (int j = 0; j < num_splits; ++j) {
    const Table256 table = load_table(deficits + j * kSubIds);
    for (int b = 0; b < kBlocks; ++b) {
      sums[b] = _mm512_adds_epu8(sums[b], lookup(table, load(blocks + b * stride + j * kLanes)));
    }
  }
  for (int b = 0; b < kBlocks; ++b) masks[b] = _mm512_cmple_epu8_mask(sums[b], limits);
}

RECJPQ_TARGET void scan(const uint8_t* blocks, size_t count, const uint8_t* deficits, int num_splits, int,
                        const uint8_t*, uint8_t limit, uint64_t* masks) {
  constexpr int kTogether = 8;
  const __m512i limits = _mm512_set1_epi8(static_cast<char>(limit));
  const size_t stride = block_bytes(num_splits);
  for (; count >= kTogether; count -= kTogether, blocks += kTogether * stride, masks += kTogether) {
    scan_blocks<kTogether>(blocks, deficits, num_splits, limits, masks);
  }
  for (; count; --count, blocks += stride, ++masks) scan_blocks<1>(blocks, deficits, num_splits, limits, masks);
}

RECJPQ_TARGET float largest(const float* row, int num_sub_ids) { return generic::largest(row, num_sub_ids); }

RECJPQ_TARGET void quantise(const float* row, int num_sub_ids, float largest, float scale, uint8_t* deficits) {
  generic::quantise(row, num_sub_ids, largest, scale, deficits);
}

RECJPQ_TARGET void band_subsets(const uint8_t* deficits, int band_shift, uint8_t* least) {
  uint8_t bands[kBands];
  generic::band_minima(deficits, band_shift, bands);
  generic::subset_minima(bands, least);
}

RECJPQ_TARGET uint64_t at_most(const uint8_t* values, uint8_t limit) {
  return _mm512_cmple_epu8_mask(load(values), _mm512_set1_epi8(static_cast<char>(limit)));
}

}  // namespace

const Kernels kAvx512Kernels = {"avx512", largest, quantise, band_subsets, bound, at_most, scan};

}  // namespace recjpq

#endif
