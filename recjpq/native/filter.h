// Which items may be returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace recjpq {

// A set of items, made for one search: a hash table or a bit for every item, whichever is smaller.
class ItemSet {
 public:
  // items: from 0 to num_items - 1, in any order, repeats allowed.
  ItemSet(const int32_t* items, int64_t count, int64_t num_items);

  bool contains(int32_t item) const {
    if (!bits_.empty()) return bits_[static_cast<size_t>(item) / 64] >> (item % 64) & 1;
    for (uint64_t slot = first_slot(item); slots_[slot] != kEmpty; slot = (slot + 1) & mask_) {
      if (slots_[slot] == item) return true;
    }
    return false;
  }

 private:
  static constexpr int32_t kEmpty = -1;

  // Neighbouring indices are common (a user's items were numbered when they were new): scatter them.
  uint64_t first_slot(int32_t item) const {
    return static_cast<uint64_t>(item) * 0x9E3779B97F4A7C15u >> 24 & mask_;
  }

  uint64_t mask_ = 0;
  std::vector<int32_t> slots_;
  std::vector<uint64_t> bits_;
};

class Filter {
 public:
  const ItemSet* excluded = nullptr;
  const bool* allowed = nullptr;  // (N,)
  const std::vector<uint64_t>* retired = nullptr;  // bits; items beyond the last are not retired

  bool admits(int32_t item) const {
    if (allowed && !allowed[item]) return false;
    if (retired && is_retired(item)) return false;
    return !excluded || !excluded->contains(item);
  }

 private:
  bool is_retired(int32_t item) const {
    const auto word = static_cast<size_t>(item) / 64;
    return word < retired->size() && ((*retired)[word] >> (item % 64) & 1);
  }
};

}  // namespace recjpq
