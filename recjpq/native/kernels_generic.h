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

RECJPQ_INLINE void subset_minima(const uint8_t* bands, uint8_t* least) {
  for (int half = 0; half < 2; ++half, bands += 8, least += kBandSets) {
    least[0] = 255;
    for (int bit = 0; bit < 8; ++bit) {
      const int known = 1 << bit;  // subsets of the bands before this one
      for (int set = 0; set < known; ++set) least[known + set] = std::min(least[set], bands[bit]);
    }
  }
}

RECJPQ_INLINE uint64_t at_most(const uint8_t* values, uint8_t limit) {
  uint64_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint64_t>(values[i] <= limit) << i;
  return mask;
}

}  // namespace recjpq::generic
