// The order of items in memory.
#pragma once

#include <cstdint>
#include <vector>

namespace recjpq {

// How a catalogue's codes become the key that its items are sorted by.
//
// The key is the bands of the first splits, 4 bits each, then the sub-ids within the bands, up to 32 bits. Items that
// agree in many bands become neighbours, so that a block has few bands and its bound is tight. On a catalogue of
// half a million items with SVD codes, blocks ordered so needed 0.15% of them to be opened; with whole sub-ids
// split after split 2.4%, in Z-order 0.2%.
struct SortKey {
  static constexpr int kBits = 32;

  int num_splits;
  int band_shift;   // band = sub-id >> band_shift
  int num_banded;   // how many splits' bands are part of the key

  SortKey(int num_splits, int max_sub_id);

  uint32_t of(const uint8_t* codes) const;

  // How many splits are in order by sub-id >> 4 wherever all splits before them agree in that.
  int num_sorted() const { return band_shift == 4 ? num_banded : 1; }
};

// The permutation that sorts num_items rows of codes by their key, equal keys by index.
std::vector<int32_t> sort_items(const uint8_t* item_codes, int64_t num_items, const SortKey& key);

}  // namespace recjpq
