#include "id_index.h"

#include <algorithm>
#include <bit>
#include <functional>

namespace recjpq {
namespace {

constexpr uint32_t kEmpty = 0xffffffff;  // no slot of an item: its index is not all ones
constexpr int kPrefetchDistance = 16;

uint64_t hash(std::string_view id) { return std::hash<std::string_view>{}(id); }

}  // namespace

IdIndex::IdIndex(const int32_t* offsets, int64_t num_items, const char* data)
    : IdIndex(offsets, nullptr, num_items, data) {}

IdIndex::IdIndex(const int64_t* offsets, int64_t num_items, const char* data)
    : IdIndex(nullptr, offsets, num_items, data) {}

// At most 2/3 full: linear probing stays short, and 10 million ids take 64 MB.
IdIndex::IdIndex(const int32_t* narrow, const int64_t* wide, int64_t num_items, const char* data)
    : narrow_(narrow),
      wide_(wide),
      data_(data),
      index_bits_(std::bit_width(static_cast<uint32_t>(num_items))),
      index_mask_((uint32_t{1} << index_bits_) - 1),
      mask_(std::bit_ceil(static_cast<uint64_t>(num_items) * 3 / 2 + 1) - 1),
      slots_((mask_ + 1) * sizeof(uint32_t)) {
  uint32_t* slots = this->slots();
  std::fill_n(slots, mask_ + 1, kEmpty);
  // The table is larger than the caches, so each first probe is a miss: hash ahead and prefetch.
  uint64_t ahead[kPrefetchDistance];
  const int64_t primed = std::min<int64_t>(num_items, kPrefetchDistance);
  for (int64_t i = 0; i < primed; ++i) ahead[i] = hash(id(static_cast<int32_t>(i)));
  for (int64_t i = 0; i < num_items; ++i) {
    const uint64_t own = ahead[i % kPrefetchDistance];
    if (const int64_t next = i + kPrefetchDistance; next < num_items) {
      const uint64_t h = hash(id(static_cast<int32_t>(next)));
      ahead[next % kPrefetchDistance] = h;
      __builtin_prefetch(&slots[h & mask_], 1);
    }
    const auto item = static_cast<int32_t>(i);
    uint64_t slot = own & mask_;
    for (; slots[slot] != kEmpty; slot = (slot + 1) & mask_) {
      const auto other = static_cast<int32_t>(slots[slot] & index_mask_);
      if ((slots[slot] & ~index_mask_) == mark(own) && id(other) == id(item)) {
        first_duplicate_.emplace(other, item);  // stop: the caller refuses it, and many equal ids probe for ever
        return;
      }
    }
    slots[slot] = mark(own) | static_cast<uint32_t>(item);
  }
}

int32_t IdIndex::find(std::string_view wanted) const {
  const uint64_t own = hash(wanted);
  const uint32_t* slots = this->slots();
  for (uint64_t slot = own & mask_; slots[slot] != kEmpty; slot = (slot + 1) & mask_) {
    const auto item = static_cast<int32_t>(slots[slot] & index_mask_);
    if ((slots[slot] & ~index_mask_) == mark(own) && id(item) == wanted) return item;
  }
  return -1;
}

}  // namespace recjpq
