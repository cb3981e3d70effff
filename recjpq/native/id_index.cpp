#include "id_index.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace recjpq {
namespace {

constexpr int32_t kEmpty = -1;
constexpr int kPrefetchDistance = 16;

uint64_t hash(std::string_view id) { return std::hash<std::string_view>{}(id); }

}  // namespace

IdIndex::IdIndex(const int64_t* offsets, int64_t num_items, const char* data) : offsets_(offsets), data_(data) {
  // At most 2/3 full: linear probing stays short, and 10 million ids take 64 MB.
  const uint64_t slots = std::bit_ceil(static_cast<uint64_t>(num_items) * 3 / 2 + 1);
  mask_ = slots - 1;
  slots_.assign(slots, kEmpty);
  // The table is larger than the caches, so each first probe is a miss: hash ahead and prefetch.
  uint64_t ahead[kPrefetchDistance];
  const int64_t primed = std::min<int64_t>(num_items, kPrefetchDistance);
  for (int64_t i = 0; i < primed; ++i) ahead[i] = hash(id(static_cast<int32_t>(i)));
  for (int64_t i = 0; i < num_items; ++i) {
    uint64_t slot = ahead[i % kPrefetchDistance] & mask_;
    if (const int64_t next = i + kPrefetchDistance; next < num_items) {
      const uint64_t h = hash(id(static_cast<int32_t>(next)));
      ahead[next % kPrefetchDistance] = h;
      __builtin_prefetch(&slots_[h & mask_], 1);
    }
    const auto item = static_cast<int32_t>(i);
    while (slots_[slot] != kEmpty) {
      if (id(slots_[slot]) == id(item)) {  // stop: the caller refuses it, and many equal ids probe for ever
        first_duplicate_.emplace(slots_[slot], item);
        return;
      }
      slot = (slot + 1) & mask_;
    }
    slots_[slot] = item;
  }
}

int32_t IdIndex::find(std::string_view wanted) const {
  for (uint64_t slot = hash(wanted) & mask_; slots_[slot] != kEmpty; slot = (slot + 1) & mask_) {
    if (id(slots_[slot]) == wanted) return slots_[slot];
  }
  return -1;
}

}  // namespace recjpq
