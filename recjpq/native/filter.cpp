#include "filter.h"

#include <bit>

namespace recjpq {

ItemSet::ItemSet(const int32_t* items, int64_t count, int64_t num_items) {
  const uint64_t num_slots = std::bit_ceil(static_cast<uint64_t>(2 * count + 1));  // at most half full
  if (static_cast<uint64_t>(num_items) <= num_slots * 8 * sizeof(int32_t)) {
    bits_.resize(static_cast<size_t>(num_items) / 64 + 1);
    for (const int32_t* item = items; item != items + count; ++item) {
      bits_[static_cast<size_t>(*item) / 64] |= uint64_t{1} << (*item % 64);
    }
    return;
  }
  mask_ = num_slots - 1;
  slots_.assign(num_slots, kEmpty);
  for (const int32_t* item = items; item != items + count; ++item) {
    uint64_t slot = first_slot(*item);
    while (slots_[slot] != kEmpty && slots_[slot] != *item) slot = (slot + 1) & mask_;
    slots_[slot] = *item;
  }
}

}  // namespace recjpq
