// Which items may be returned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace recjpq {

// A set of items, made for one search: few bytes, no sorting. Indices are not negative.
class ItemSet {
 public:
  ItemSet(const int32_t* items, int64_t count);

  bool contains(int32_t item) const {
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

  uint64_t mask_;
  std::vector<int32_t> slots_;
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
