// External item ids to item indices: an open-addressing hash table over strings that it does not own.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "buffer.h"

namespace recjpq {

class IdIndex {
 public:
  // offsets: N + 1 ascending positions in data, as Arrow's string and large_string. Both must outlive the index.
  IdIndex(const int32_t* offsets, int64_t num_items, const char* data);
  IdIndex(const int64_t* offsets, int64_t num_items, const char* data);

  // The item index of an id, or -1.
  int32_t find(std::string_view id) const;

  // The two lowest item indices found with one id, or nothing when every id is unique.
  const std::optional<std::pair<int32_t, int32_t>>& first_duplicate() const { return first_duplicate_; }

  size_t size_bytes() const { return slots_.size(); }

 private:
  IdIndex(const int32_t* narrow, const int64_t* wide, int64_t num_items, const char* data);

  std::string_view id(int32_t item) const {
    const int64_t begin = narrow_ ? narrow_[item] : wide_[item];
    const int64_t end = narrow_ ? narrow_[item + 1] : wide_[item + 1];
    return {data_ + begin, static_cast<size_t>(end - begin)};
  }
  // An item's slot: its index, and above that as many bits of its hash as there is room for, which tell most
  // other ids apart without a look at them.
  uint32_t mark(uint64_t hash) const { return static_cast<uint32_t>(hash >> 32) << index_bits_; }
  uint32_t* slots() { return reinterpret_cast<uint32_t*>(slots_.data()); }
  const uint32_t* slots() const { return reinterpret_cast<const uint32_t*>(slots_.data()); }

  const int32_t* narrow_;  // the offsets: these or the wide ones
  const int64_t* wide_;
  const char* data_;
  int index_bits_;
  uint32_t index_mask_;
  uint64_t mask_;
  Buffer slots_;
  std::optional<std::pair<int32_t, int32_t>> first_duplicate_;
};

}  // namespace recjpq
