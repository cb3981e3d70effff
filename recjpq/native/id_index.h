// External item ids to item indices: an open-addressing hash table over strings that it does not own.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace recjpq {

class IdIndex {
 public:
  // offsets: N + 1 ascending positions in data, as Arrow's large_string. Both must outlive the index.
  IdIndex(const int64_t* offsets, int64_t num_items, const char* data);

  // The item index of an id, or -1.
  int32_t find(std::string_view id) const;

  // The two lowest item indices found with one id, or nothing when every id is unique.
  const std::optional<std::pair<int32_t, int32_t>>& first_duplicate() const { return first_duplicate_; }

  size_t size_bytes() const { return slots_.size() * sizeof(int32_t); }

 private:
  std::string_view id(int32_t item) const {
    return {data_ + offsets_[item], static_cast<size_t>(offsets_[item + 1] - offsets_[item])};
  }

  const int64_t* offsets_;
  const char* data_;
  uint64_t mask_;
  std::vector<int32_t> slots_;  // item index, or -1 for an empty slot
  std::optional<std::pair<int32_t, int32_t>> first_duplicate_;
};

}  // namespace recjpq
