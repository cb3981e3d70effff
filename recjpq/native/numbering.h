// How a catalogue numbers the sub-ids of each split for itself.
//
// Bounds are made for bands of 16 neighbouring codes, so sub-ids that are scored alike should be neighbours, and few
// sub-ids should spread over all bands. Nothing outside the catalogue sees them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "deficits.h"
#include "layout.h"

namespace recjpq {

class Numbering {
 public:
  // item_codes: (num_items, num_splits), whose largest sub-id says how far to spread.
  Numbering(const uint8_t* item_codes, int64_t num_items, int num_splits);

  int num_splits() const { return static_cast<int>(codes_.size()); }
  uint8_t code(int split, uint8_t sub_id) const { return codes_[static_cast<size_t>(split)][sub_id]; }
  bool is_identity() const { return is_identity_; }

  // The table by code: entries (M, 256), -inf for codes of sub-ids that the table lacks.
  void arrange(const ScoreTable& table, float* entries) const;

 private:
  using Permutation = std::array<uint8_t, kSubIds>;

  std::vector<Permutation> codes_;  // per split, by sub-id
  bool is_identity_ = true;
};

}  // namespace recjpq
