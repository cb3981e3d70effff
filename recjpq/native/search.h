// Exact top-k over all segments of a catalogue.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "best.h"
#include "pool.h"
#include "segment_search.h"

namespace recjpq {

using Segments = std::vector<std::shared_ptr<const Segment>>;  // ascending first_item, the base segment first

// Restricts a search to some items when not null; the list is ascending and without repeats.
struct AllowedItems {
  const int32_t* items = nullptr;
  int64_t count = 0;
};

// The k best eligible items, best first; fewer when fewer are eligible.
std::vector<Scored> search(const Segments& segments, const Request& request, AllowedItems allowed, Pool& pool);

}  // namespace recjpq
