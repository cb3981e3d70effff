// Loops in plain C++ that compilers vectorise well: inlined into functions of each instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels.h"
#include "layout.h"

#define RECJPQ_INLINE inline __attribute__((always_inline))

namespace recjpq::generic {

RECJPQ_INLINE float largest(const float* row, int num_sub_ids) {
  constexpr int kWidth = 16;  // independent maxima, as many as fill a register
  float found[kWidth];
  for (int i = 0; i < kWidth; ++i) found[i] = row[0];
  int v = 0;
  for (; v + kWidth <= num_sub_ids; v += kWidth) {
    for (int i = 0; i < kWidth; ++i) found[i] = row[v + i] > found[i] ? row[v + i] : found[i];
  }
  for (; v < num_sub_ids; ++v) found[0] = std::max(found[0], row[v]);
  return *std::max_element(found, found + kWidth);
}

RECJPQ_INLINE void quantise(const float* row, int num_sub_ids, float largest, float scale, uint8_t* deficits) {
  for (int v = 0; v < num_sub_ids; ++v) {
    const float scaled = (largest - row[v]) * scale;
    deficits[v] = static_cast<uint8_t>(static_cast<int32_t>(scaled < 255.0f ? scaled : 255.0f));
  }
  std::memset(deficits + num_sub_ids, 255, static_cast<size_t>(kSubIds - num_sub_ids));
}

// least[kKnown + s] = min(least[s], band), for the subsets s of the bands before this one.
template <int kKnown>
RECJPQ_INLINE void add_band(uint8_t band, uint8_t* least) {
  uint8_t known[kKnown];  // a copy, so that the compiler need not ask whether the halves overlap
  std::memcpy(known, least, kKnown);
  for (int set = 0; set < kKnown; ++set) least[kKnown + set] = std::min(known[set], band);
}

RECJPQ_INLINE void subset_minima(const uint8_t* bands, uint8_t* least) {
  for (int half = 0; half < 2; ++half, bands += 8, least += kBandSets) {
    least[0] = 255;
    add_band<1>(bands[0], least);
    add_band<2>(bands[1], least);
    add_band<4>(bands[2], least);
    add_band<8>(bands[3], least);
    add_band<16>(bands[4], least);
    add_band<32>(bands[5], least);
    add_band<64>(bands[6], least);
    add_band<128>(bands[7], least);
  }
}

// bands[b] = the least of the 2^band_shift deficits from b * 2^band_shift on.
RECJPQ_INLINE void band_minima(const uint8_t* deficits, int band_shift, uint8_t* bands) {
  constexpr int kUsualWidth = kSubIds / kBands;  // known when compiling: a vector each
  for (int b = 0; b < kBands; ++b) {
    uint8_t least = 255;
    if (1 << band_shift == kUsualWidth) {
      for (int i = 0; i < kUsualWidth; ++i) least = std::min(least, deficits[b * kUsualWidth + i]);
    } else {
      for (int i = 0; i < 1 << band_shift; ++i) least = std::min(least, deficits[(b << band_shift) + i]);
    }
    bands[b] = least;
  }
}

RECJPQ_INLINE uint64_t at_most(const uint8_t* values, uint8_t limit) {
  uint64_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint64_t>(values[i] <= limit) << i;
  return mask;
}

}  // namespace recjpq::generic
