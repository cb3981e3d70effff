#include "segment.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "order.h"

namespace recjpq {
namespace {

constexpr size_t kPrefetchRows = 24;

Buffer zeros(size_t size_bytes) {
  Buffer buffer(size_bytes);
  std::memset(buffer.data(), 0, size_bytes);
  return buffer;
}

// Adds bands to one split's presence of one child.
void add_presence(uint8_t* presence, int split, size_t child, uint32_t bands) {
  uint8_t* low = presence + static_cast<size_t>(split) * 2 * kLanes + child;
  low[0] |= static_cast<uint8_t>(bands);
  low[kLanes] |= static_cast<uint8_t>(bands >> 8);
}

}  // namespace

Segment::Segment(std::shared_ptr<const uint8_t> item_codes, int64_t num_items, const Numbering& numbering,
                 int32_t first_item)
    : item_codes_(std::move(item_codes)),
      num_items_(num_items),
      num_splits_(numbering.num_splits()),
      first_item_(first_item),
      num_sorted_(SortKey(numbering).num_sorted()) {
  const uint8_t* codes = item_codes_.get();
  const std::vector<int32_t> order = sort_items(codes, num_items, numbering);
  blocks_ = Buffer(num_blocks() * block_bytes(num_splits_));
  items_ = Buffer(num_blocks() * kLanes * sizeof(int32_t));
  pages_ = zeros(num_pages() * presence_bytes(num_splits_));
  chapters_ = zeros(num_chapters() * presence_bytes(num_splits_));
  for (size_t block = 0; block < num_blocks(); ++block) {
    const size_t first = block * kLanes;
    fill_block(block, order.data() + first, std::min<size_t>(order.size() - first, kLanes), numbering);
    for (size_t i = first + kPrefetchRows; i < std::min(first + kPrefetchRows + kLanes, order.size()); ++i) {
      __builtin_prefetch(codes + static_cast<size_t>(order[i]) * static_cast<size_t>(num_splits_));
    }
  }
}

void Segment::fill_block(size_t block, const int32_t* rows, size_t num_rows, const Numbering& numbering) {
  uint8_t* codes = blocks_.data() + block * block_bytes(num_splits_);
  int32_t* items = reinterpret_cast<int32_t*>(items_.data()) + block * kLanes;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const int32_t row = rows[std::min(lane, num_rows - 1)];
    items[lane] = lane < num_rows ? first_item_ + row : -1;
    const uint8_t* source = item_codes_.get() + static_cast<size_t>(row) * static_cast<size_t>(num_splits_);
    for (int j = 0; j < num_splits_; ++j) codes[static_cast<size_t>(j) * kLanes + lane] = numbering.code(j, source[j]);
  }
  const size_t page = block / kLanes, chapter = page / kLanes;
  for (int j = 0; j < num_splits_; ++j) {
    uint32_t bands = 0;
    for (int lane = 0; lane < kLanes; ++lane) bands |= 1u << kPlaces.bands[codes[j * kLanes + lane]];
    add_presence(pages_.data() + page * presence_bytes(num_splits_), j, block % kLanes, bands);
    add_presence(chapters_.data() + chapter * presence_bytes(num_splits_), j, page % kLanes, bands);
  }
}

}  // namespace recjpq
