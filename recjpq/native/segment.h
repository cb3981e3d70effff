// A run of items, sorted and indexed for skipping; never changed once built.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "buffer.h"
#include "layout.h"
#include "numbering.h"

namespace recjpq {

class Segment {
 public:
  // item_codes: (num_items, num_splits), kept; row i is item first_item + i. At least one item.
  Segment(std::shared_ptr<const uint8_t> item_codes, int64_t num_items, const Numbering& numbering,
          int32_t first_item);

  int64_t num_items() const { return num_items_; }
  int num_splits() const { return num_splits_; }
  int32_t first_item() const { return first_item_; }
  int num_sorted() const { return num_sorted_; }
  size_t num_blocks() const { return (static_cast<size_t>(num_items_) + kLanes - 1) / kLanes; }
  size_t num_pages() const { return (num_blocks() + kLanes - 1) / kLanes; }
  size_t num_chapters() const { return (num_pages() + kLanes - 1) / kLanes; }
  size_t size_bytes() const { return blocks_.size() + items_.size() + pages_.size() + chapters_.size(); }

  // The sub-ids of an item of this segment, in the order of the splits.
  const uint8_t* item_codes(int32_t item) const {
    return item_codes_.get() + static_cast<size_t>(item - first_item_) * static_cast<size_t>(num_splits_);
  }
  const uint8_t* all_item_codes() const { return item_codes_.get(); }

  const uint8_t* block(size_t block) const { return blocks_.data() + block * block_bytes(num_splits_); }

  // The index of an item; lanes beyond the last repeat its codes and have none.
  int32_t item(size_t block, size_t lane) const {
    uint32_t row;
    std::memcpy(&row, items_.data() + (block * kLanes + lane) * item_bytes_, sizeof row);
    return first_item_ + static_cast<int32_t>(row & item_mask_);
  }

  // Bit i: lane i of the block is an item.
  uint64_t lanes(size_t block) const {
    const int64_t left = num_items_ - static_cast<int64_t>(block) * kLanes;
    return left >= kLanes ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
  }

  // Children beyond the last have no band at all.
  const uint8_t* page(size_t page) const { return pages_.data() + page * presence_bytes(num_splits_); }
  const uint8_t* chapter(size_t chapter) const { return chapters_.data() + chapter * presence_bytes(num_splits_); }

 private:
  void fill_block(size_t block, const uint32_t* rows, size_t num_rows, const Numbering& numbering);

  std::shared_ptr<const uint8_t> item_codes_;
  int64_t num_items_;
  int num_splits_;
  int32_t first_item_;
  int num_sorted_;
  size_t item_bytes_;
  uint32_t item_mask_;
  Buffer blocks_;    // [num_blocks][M][64]
  Buffer items_;     // [num_blocks][64] rows of item_codes in 3 or 4 bytes, and a byte so that 4 can be read
  Buffer pages_;     // [num_pages][M][2][64]
  Buffer chapters_;  // [num_chapters][M][2][64]
};

}  // namespace recjpq
