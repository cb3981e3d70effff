// A catalogue at one moment: never changed, so that searches need no lock; growing makes a new one that shares parts.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "search.h"

namespace recjpq {

class Catalogue {
 public:
  // item_codes: (num_items, num_splits), kept for as long as the catalogue or one made from it.
  Catalogue(std::shared_ptr<const uint8_t> item_codes, int64_t num_items, int num_splits);

  // The catalogue with more items, of the indices from num_items() on. Costs little more than the new items: small
  // segments are merged into larger ones, so that each item is sorted again at most log2(N) times.
  Catalogue append(std::shared_ptr<const uint8_t> item_codes, int64_t num_items) const;

  // The catalogue in which these items are never returned. Their indices stay theirs.
  Catalogue retire(std::span<const int32_t> items) const;

  int64_t num_items() const { return segments_.back()->first_item() + segments_.back()->num_items(); }
  int num_splits() const { return numbering_->num_splits(); }
  size_t size_bytes() const;  // without the base's item_codes

  const Numbering& numbering() const { return *numbering_; }
  const Segments& segments() const { return segments_; }
  const std::vector<uint64_t>* retired() const { return retired_.get(); }

 private:
  Catalogue() = default;

  std::shared_ptr<const Numbering> numbering_;  // of the base
  Segments segments_;
  std::shared_ptr<const std::vector<uint64_t>> retired_;  // bits by item index, or null when there is none
};

}  // namespace recjpq
