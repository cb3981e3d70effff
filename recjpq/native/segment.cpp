#include "segment.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "order.h"

namespace recjpq {
namespace {

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
      num_sorted_(SortKey(numbering).num_sorted()),
      item_bytes_(num_items <= 1 << 24 ? 3 : 4),
      item_mask_(item_bytes_ == 3 ? 0xffffff : 0xffffffff),
      blocks_(num_blocks() * block_bytes(num_splits_)),
      items_(num_blocks() * kLanes * item_bytes_ + 1),
      pages_(zeros(num_pages() * presence_bytes(num_splits_))),
      chapters_(zeros(num_chapters() * presence_bytes(num_splits_))) {
  // From 8 splits on, keys are sorted in the memory of the blocks, at its end: a block then covers only keys that have
  // been read, and building takes no memory besides the segment's own.
  const auto count = static_cast<size_t>(num_items);
  std::vector<SortedRow> outside(num_splits_ < 8 ? count : 0);
  SortedRow* keys = outside.data();
  if (outside.empty()) keys = reinterpret_cast<SortedRow*>(blocks_.data() + blocks_.size()) - num_blocks() * kLanes;
  sort_items(item_codes_.get(), num_items, numbering, keys);
  for (size_t first = 0; first < count; first += kLanes) {
    const size_t num_rows = std::min<size_t>(count - first, kLanes);
    std::array<uint32_t, kLanes> rows;
    for (size_t i = 0; i < num_rows; ++i) rows[i] = row_of(keys[first + i]);
    for (size_t i = first + kLanes; i < std::min(first + 2 * kLanes, count); ++i) {
      __builtin_prefetch(item_codes_.get() + size_t{row_of(keys[i])} * static_cast<size_t>(num_splits_));
    }
    fill_block(first / kLanes, rows.data(), num_rows, numbering);
  }
}

void Segment::fill_block(size_t block, const uint32_t* rows, size_t num_rows, const Numbering& numbering) {
  uint8_t* codes = blocks_.data() + block * block_bytes(num_splits_);
  uint8_t* items = items_.data() + block * kLanes * item_bytes_;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t row = rows[std::min(lane, num_rows - 1)];
    std::memcpy(items + lane * item_bytes_, &row, item_bytes_);
    const uint8_t* source = item_codes_.get() + size_t{row} * static_cast<size_t>(num_splits_);
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
