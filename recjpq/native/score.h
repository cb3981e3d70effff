// The score of an item: the contract's float32 sum in the order of the splits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "deficits.h"
#include "layout.h"

namespace recjpq {

// codes: those of one item, `stride` bytes apart.
inline float exact_score(const ScoreTable& table, const uint8_t* codes, size_t stride) {
  float sum = 0.0f;
  const float* row = table.entries;
  for (int j = 0; j < table.num_splits; ++j, row += table.num_sub_ids, codes += stride) sum += row[*codes];
  return sum;
}

}  // namespace recjpq
