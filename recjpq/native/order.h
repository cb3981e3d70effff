// The order of items in memory.
#pragma once

#include <cstdint>

#include "numbering.h"

namespace recjpq {

// How an item's codes become the key that a segment is sorted by.
//
// The key is the cells of the first splits, 5 bits each, then the codes within the cells, up to 30 bits. Items that
// agree in many cells become neighbours, so that a block has few bands and its bound is tight: see docs/log.md for
// other orders.
class SortKey {
 public:
  explicit SortKey(const Numbering& numbering);

  uint32_t of(const uint8_t* sub_ids) const;

  // How many splits are in order by cell wherever all splits before them agree in theirs.
  int num_sorted() const { return num_celled_; }

  static constexpr int kBits = 30;

 private:
  const Numbering& numbering_;
  int num_celled_;  // how many splits' cells are part of the key
};

// A row of item_codes below its key.
using SortedRow = uint64_t;

inline uint32_t row_of(SortedRow row) { return static_cast<uint32_t>(row); }

// Writes all num_items rows, sorted by their key, equal keys by index; takes no other memory.
void sort_items(const uint8_t* item_codes, int64_t num_items, const Numbering& numbering, SortedRow* sorted);

}  // namespace recjpq
