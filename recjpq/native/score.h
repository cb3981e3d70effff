// The score of an item: the contract's float32 sum in the order of the splits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "deficits.h"
#include "layout.h"

namespace recjpq {

inline float sum_of(const ScoreTable& table, int num_splits, const uint8_t* codes, size_t stride) {
  float sum = 0.0f;
  const float* row = table.entries;
  for (int j = 0; j < num_splits; ++j, row += table.num_sub_ids, codes += stride) sum += row[*codes];
  return sum;
}

// codes: those of one item, `stride` bytes apart.
inline float exact_score(const ScoreTable& table, const uint8_t* codes, size_t stride) {
  constexpr int kUsual = 8;  // known when compiling, so without a loop
  if (table.num_splits == kUsual) return sum_of(table, kUsual, codes, stride);
  return sum_of(table, table.num_splits, codes, stride);
}

}  // namespace recjpq
