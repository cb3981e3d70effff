#include "order.h"

#include <algorithm>
#include <array>
#include <utility>

namespace recjpq {
namespace {

constexpr int kCellBits = 5;
constexpr int kDigits = 3;
constexpr int kDigitBits = 10;
constexpr size_t kBuckets = size_t{1} << kDigitBits;

struct Keyed {
  uint32_t key;
  int32_t item;
};

size_t digit(uint32_t key, int position) { return key >> (position * kDigitBits) & (kBuckets - 1); }

}  // namespace

SortKey::SortKey(const Numbering& numbering)
    : numbering_(numbering), num_celled_(std::min(numbering.num_splits(), kBits / kCellBits)) {}

uint32_t SortKey::of(const uint8_t* sub_ids) const {
  uint32_t key = 0;
  for (int j = 0; j < num_celled_; ++j) key = key << kCellBits | kPlaces.cells[numbering_.code(j, sub_ids[j])];
  const int num_refined = std::min(num_celled_, kBits / kCellBits - num_celled_);
  for (int j = 0; j < num_refined; ++j) key = key << kCellBits | (numbering_.code(j, sub_ids[j]) & 15);
  return key;
}

// Radix sort, least significant digit first: linear in the number of items, and stable.
std::vector<int32_t> sort_items(const uint8_t* item_codes, int64_t num_items, const Numbering& numbering) {
  const SortKey key(numbering);
  const auto num_splits = static_cast<size_t>(numbering.num_splits());
  std::vector<Keyed> from(static_cast<size_t>(num_items)), to(from.size());
  std::array<std::array<size_t, kBuckets>, kDigits> starts{};
  for (size_t i = 0; i < from.size(); ++i) {
    from[i] = {key.of(item_codes + i * num_splits), static_cast<int32_t>(i)};
    for (int d = 0; d < kDigits; ++d) ++starts[d][digit(from[i].key, d)];
  }
  for (int d = 0; d < kDigits; ++d) {
    size_t next = 0;
    for (size_t& start : starts[d]) next += std::exchange(start, next);
    for (const Keyed& item : from) to[starts[d][digit(item.key, d)]++] = item;
    from.swap(to);
  }
  std::vector<int32_t> order(from.size());
  std::transform(from.begin(), from.end(), order.begin(), [](const Keyed& keyed) { return keyed.item; });
  return order;
}

}  // namespace recjpq
