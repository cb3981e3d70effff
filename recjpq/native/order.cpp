#include "order.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

namespace recjpq {
namespace {

constexpr int kCellBits = 5;
constexpr int kBucketBits = 10;  // of the key: the cells of two splits
constexpr size_t kBuckets = size_t{1} << kBucketBits;

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

// One pass of a radix sort in place, then the buckets, which fit into caches.
void sort_items(const uint8_t* item_codes, int64_t num_items, const Numbering& numbering, SortedRow* sorted) {
  const SortKey key(numbering);
  const auto count = static_cast<size_t>(num_items), num_splits = static_cast<size_t>(numbering.num_splits());
  const auto bucket = [](SortedRow row) { return static_cast<size_t>(row >> (32 + SortKey::kBits - kBucketBits)); };
  std::array<size_t, kBuckets + 1> ends{};
  for (size_t i = 0; i < count; ++i) {
    sorted[i] = uint64_t{key.of(item_codes + i * num_splits)} << 32 | i;
    ++ends[bucket(sorted[i]) + 1];
  }
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  std::array<size_t, kBuckets> next;
  std::copy_n(ends.begin(), kBuckets, next.begin());
  for (size_t b = 0; b < kBuckets; ++b) {
    while (next[b] < ends[b + 1]) {  // whatever lies here moves to its bucket, until something of this one comes
      SortedRow row = sorted[next[b]];
      for (size_t home; (home = bucket(row)) != b;) std::swap(row, sorted[next[home]++]);
      sorted[next[b]++] = row;
    }
    std::sort(sorted + ends[b], sorted + ends[b + 1]);
  }
}

}  // namespace recjpq
