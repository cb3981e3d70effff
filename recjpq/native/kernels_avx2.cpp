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

RECJPQ_TARGET RECJPQ_INLINE Bytes64 high_halves(Bytes64 x) {
  return low_halves({_mm256_srli_epi16(x.low, 4), _mm256_srli_epi16(x.high, 4)});
}

RECJPQ_TARGET void bound(const uint8_t* presence, const uint8_t* subsets, int num_splits, uint8_t* bounds) {
  Bytes64 sum{_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, subsets += kBandSets) {
    const Bytes64 first = load(presence), second = load(presence + kLanes);
    const Bytes64 a = least(shuffle(subsets, low_halves(first)), shuffle(subsets + 16, high_halves(first)));
    const Bytes64 b = least(shuffle(subsets + 32, low_halves(second)), shuffle(subsets + 48, high_halves(second)));
    sum = add(sum, least(a, b));
  }
  store(bounds, sum);
}

RECJPQ_TARGET uint64_t sift(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  Bytes64 sum{_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int i = 1; i < table.num_splits; ++i) {
    const int j = table.order[i];
    sum = add(sum, shuffle(table.rows + j * kRows, high_halves(load(block + j * kLanes))));
  }
  if (!any_at_most(sum, limit)) return 0;
  const int first = table.order[0];
  return at_most(add(sum, lookup(table.items + first * kSubIds, load(block + first * kLanes))), limit);
}

RECJPQ_TARGET RECJPQ_INLINE uint64_t scan_block(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  Bytes64 sum{_mm256_setzero_si256(), _mm256_setzero_si256()};
  // While all items of the block so far share their cells, the next sorted split's are in order: where its first and
  // last item agree, all do, and one row of 16 entries is enough.
  int shared = 0;
  for (; shared < table.num_sorted; ++shared) {
    const uint8_t* codes = block + shared * kLanes;
    if (kPlaces.cells[codes[0]] != kPlaces.cells[codes[kLanes - 1]]) break;
    sum = add(sum, shuffle(table.items + shared * kSubIds + codes[0] / kRows * kRows, low_halves(load(codes))));
  }
  for (int i = 0; i < table.num_splits; ++i) {
    const int j = table.order[i];
    if (j < shared) continue;
    sum = add(sum, lookup(table.items + j * kSubIds, load(block + j * kLanes)));
    if (!any_at_most(sum, limit)) return 0;
  }
  return at_most(sum, limit);
}

RECJPQ_TARGET void scan(const uint8_t* blocks, size_t count, const ScanTable& table, uint8_t limit, uint64_t* masks) {
  for (size_t b = 0; b < count; ++b, blocks += block_bytes(table.num_splits)) {
    masks[b] = scan_block(blocks, table, limit);
  }
}

// Of pairs: the larger of neighbouring lanes of a, then of b, in each half of the register.
RECJPQ_TARGET RECJPQ_INLINE __m256 larger_of_pairs(__m256 a, __m256 b) {
  return _mm256_max_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}

RECJPQ_TARGET void row_maxima(const float* entries, float* maxima) {
  for (int r = 0; r < kRows; r += 8, entries += kSubIds / 2) {
    __m256 eight[8];
    for (int i = 0; i < 8; ++i) {
      eight[i] = _mm256_max_ps(_mm256_loadu_ps(entries + 16 * i), _mm256_loadu_ps(entries + 16 * i + 8));
    }
    const __m256 low = larger_of_pairs(larger_of_pairs(eight[0], eight[1]), larger_of_pairs(eight[2], eight[3]));
    const __m256 high = larger_of_pairs(larger_of_pairs(eight[4], eight[5]), larger_of_pairs(eight[6], eight[7]));
    _mm256_storeu_ps(maxima + r, _mm256_max_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                               _mm256_permute2f128_ps(low, high, 0x31)));
  }
}

RECJPQ_TARGET void quantise(const float* entries, int count, float largest, float scale, uint8_t* deficits) {
  generic::quantise(entries, count, largest, scale, deficits);
}

RECJPQ_TARGET uint64_t values_at_most(const uint8_t* values, uint8_t limit) { return at_most(load(values), limit); }

}  // namespace

const Kernels kAvx2Kernels = {"avx2", row_maxima, quantise, bound, values_at_most, sift, scan};

}  // namespace recjpq

#endif
