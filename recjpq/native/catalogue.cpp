#include "catalogue.h"

#include <algorithm>
#include <cstring>

namespace recjpq {
namespace {

using Codes = std::shared_ptr<const uint8_t>;

Codes joined(const Segment& segment, const Codes& more, int64_t num_more) {
  const auto splits = static_cast<size_t>(segment.num_splits());
  const size_t first = static_cast<size_t>(segment.num_items()) * splits;
  const size_t second = static_cast<size_t>(num_more) * splits;
  const std::shared_ptr<uint8_t> both(new uint8_t[first + second], std::default_delete<uint8_t[]>());
  std::memcpy(both.get(), segment.all_item_codes(), first);
  std::memcpy(both.get() + first, more.get(), second);
  return both;
}

}  // namespace

Catalogue::Catalogue(Codes item_codes, int64_t num_items, int num_splits)
    : numbering_(std::make_shared<const Numbering>(item_codes.get(), num_items, num_splits)),
      segments_{std::make_shared<const Segment>(std::move(item_codes), num_items, *numbering_, 0)} {}

Catalogue Catalogue::append(Codes item_codes, int64_t num_items) const {
  Catalogue grown(*this);
  auto first_item = static_cast<int32_t>(this->num_items());
  // Every appended segment stays at least twice as large as the next; the base is never sorted again.
  while (grown.segments_.size() > 1 && grown.segments_.back()->num_items() < 2 * num_items) {
    const Segment& last = *grown.segments_.back();
    item_codes = joined(last, item_codes, num_items);
    num_items += last.num_items();
    first_item = last.first_item();
    grown.segments_.pop_back();
  }
  grown.segments_.push_back(std::make_shared<const Segment>(std::move(item_codes), num_items, *numbering_, first_item));
  return grown;
}

Catalogue Catalogue::retire(std::span<const int32_t> items) const {
  auto bits = retired_ ? std::make_shared<std::vector<uint64_t>>(*retired_) : std::make_shared<std::vector<uint64_t>>();
  bits->resize(static_cast<size_t>(num_items() + 63) / 64);
  for (const int32_t item : items) (*bits)[static_cast<size_t>(item) / 64] |= uint64_t{1} << (item % 64);
  Catalogue smaller(*this);
  smaller.retired_ = std::move(bits);
  return smaller;
}

size_t Catalogue::size_bytes() const {
  size_t total = retired_ ? retired_->size() * sizeof(uint64_t) : 0;
  for (const auto& segment : segments_) {
    total += segment->size_bytes();
    if (segment != segments_.front()) {
      total += static_cast<size_t>(segment->num_items()) * static_cast<size_t>(segment->num_splits());
    }
  }
  return total;
}

}  // namespace recjpq
