// AVX2: 32 lookups in a table of 256 bytes are 16 shuffles by the low half of the index and 15 blends by its high
// half. A table row is loaded once for the 64 items of a block.
#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels_generic.h"
#include "kernels_sets.h"

#define RECJPQ_TARGET __attribute__((target("avx2")))

namespace recjpq {
namespace {

struct Bytes64 {
  __m256i low, high;
};

RECJPQ_TARGET RECJPQ_INLINE Bytes64 load(const uint8_t* bytes) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 32))};
}

RECJPQ_TARGET RECJPQ_INLINE void store(uint8_t* bytes, Bytes64 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), x.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes + 32), x.high);
}

RECJPQ_TARGET RECJPQ_INLINE Bytes64 add(Bytes64 a, Bytes64 b) {
  return {_mm256_adds_epu8(a.low, b.low), _mm256_adds_epu8(a.high, b.high)};
}

RECJPQ_TARGET RECJPQ_INLINE Bytes64 least(Bytes64 a, Bytes64 b) {
  return {_mm256_min_epu8(a.low, b.low), _mm256_min_epu8(a.high, b.high)};
}

RECJPQ_TARGET RECJPQ_INLINE Bytes64 low_halves(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask)};
}

RECJPQ_TARGET RECJPQ_INLINE uint64_t at_most(Bytes64 x, uint8_t limit) {
  const __m256i limits = _mm256_set1_epi8(static_cast<char>(limit));
  const auto low = static_cast<uint32_t>(
      _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(x.low, limits), x.low)));
  const auto high = static_cast<uint32_t>(
      _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(x.high, limits), x.high)));
  return static_cast<uint64_t>(high) << 32 | low;
}

RECJPQ_TARGET RECJPQ_INLINE bool any_at_most(Bytes64 x, uint8_t limit) {
  const __m256i least = _mm256_min_epu8(x.low, x.high);
  const __m256i limits = _mm256_set1_epi8(static_cast<char>(limit));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(least, limits), least)) != 0;
}

// table16[index], for indices below 16.
RECJPQ_TARGET RECJPQ_INLINE Bytes64 shuffle(const uint8_t* table16, Bytes64 index) {
  const __m256i entries =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table16)));
  return {_mm256_shuffle_epi8(entries, index.low), _mm256_shuffle_epi8(entries, index.high)};
}

// b where bit kBit of the index is set, else a. A blend looks at the top bit of a byte: move kBit there. What a
// 16-bit shift carries over from the neighbour reaches only lower bits.
template <int kBit>
RECJPQ_TARGET RECJPQ_INLINE Bytes64 choose(Bytes64 a, Bytes64 b, Bytes64 index) {
  return {_mm256_blendv_epi8(a.low, b.low, _mm256_slli_epi16(index.low, 7 - kBit)),
          _mm256_blendv_epi8(a.high, b.high, _mm256_slli_epi16(index.high, 7 - kBit))};
}

// Lookup among 2^kBits rows of 16 entries.
template <int kBits>
RECJPQ_TARGET RECJPQ_INLINE Bytes64 lookup_tree(const uint8_t* table, Bytes64 low_half, Bytes64 index) {
  if constexpr (kBits == 0) {
    return shuffle(table, low_half);
  } else {
    const Bytes64 a = lookup_tree<kBits - 1>(table, low_half, index);
    const Bytes64 b = lookup_tree<kBits - 1>(table + (8 << kBits), low_half, index);
    return choose<kBits + 3>(a, b, index);
  }
}

RECJPQ_TARGET RECJPQ_INLINE Bytes64 lookup(const uint8_t* table, Bytes64 index) {
  return lookup_tree<4>(table, low_halves(index), index);
}

RECJPQ_TARGET void bound(const uint8_t* presence, const uint8_t* subsets, int num_splits, uint8_t* bounds) {
  Bytes64 sum{_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, subsets += 2 * kBandSets) {
    const Bytes64 low = lookup(subsets, load(presence));
    const Bytes64 high = lookup(subsets + kBandSets, load(presence + kLanes));
    sum = add(sum, least(low, high));
  }
  store(bounds, sum);
}

RECJPQ_TARGET RECJPQ_INLINE uint64_t scan_block(const uint8_t* block, const uint8_t* deficits, int num_splits,
                                               int num_sorted, const uint8_t* rest, uint8_t limit) {
  Bytes64 sum{_mm256_setzero_si256(), _mm256_setzero_si256()};
  // While all items of the block so far share their 16s of sub-ids, the next sorted split's are in order: where its
  // first and last item agree, all do, and one row of 16 entries is enough.
  int shared = 0;
  for (; shared < num_sorted; ++shared) {
    const uint8_t* codes = block + shared * kLanes;
    const int row = codes[0] >> 4;
    if (row != codes[kLanes - 1] >> 4) break;
    sum = add(sum, shuffle(deficits + shared * kSubIds + row * 16, low_halves(load(codes))));
  }
  for (int i = 0; i < num_splits; ++i) {
    const int j = rest[i];
    if (j < shared) continue;
    sum = add(sum, lookup(deficits + j * kSubIds, load(block + j * kLanes)));
    if (!any_at_most(sum, limit)) return 0;
  }
  return at_most(sum, limit);
}

RECJPQ_TARGET void scan(const uint8_t* blocks, size_t count, const uint8_t* deficits, int num_splits, int num_sorted,
                        const uint8_t* rest, uint8_t limit, uint64_t* masks) {
  for (size_t b = 0; b < count; ++b, blocks += block_bytes(num_splits)) {
    masks[b] = scan_block(blocks, deficits, num_splits, num_sorted, rest, limit);
  }
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

RECJPQ_TARGET uint64_t values_at_most(const uint8_t* values, uint8_t limit) { return at_most(load(values), limit); }

}  // namespace

const Kernels kAvx2Kernels = {"avx2", largest, quantise, band_subsets, bound, values_at_most, scan};

}  // namespace recjpq

#endif
