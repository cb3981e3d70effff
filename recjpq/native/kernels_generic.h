// Loops in plain C++ that compilers vectorise well: inlined into functions of each instruction set.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels.h"
#include "layout.h"

#define RECJPQ_INLINE inline __attribute__((always_inline))

namespace recjpq::generic {

RECJPQ_INLINE void row_maxima(const float* entries, float* maxima) {
  constexpr int kWidth = kSubIds / kRows;
  for (int r = 0; r < kRows; ++r, entries += kWidth) {
    float found = entries[0];
    for (int i = 1; i < kWidth; ++i) found = entries[i] > found ? entries[i] : found;
    maxima[r] = found;
  }
}

RECJPQ_INLINE void quantise(const float* entries, int count, float largest, float scale, uint8_t* deficits) {
  for (int i = 0; i < count; ++i) {
    const float scaled = (largest - entries[i]) * scale;
    deficits[i] = static_cast<uint8_t>(static_cast<int32_t>(scaled < 255.0f ? scaled : 255.0f));
  }
}

RECJPQ_INLINE uint64_t at_most(const uint8_t* values, uint8_t limit) {
  uint64_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint64_t>(values[i] <= limit) << i;
  return mask;
}

}  // namespace recjpq::generic
