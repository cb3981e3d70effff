// Exact top-k within one segment.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "best.h"
#include "deficits.h"
#include "filter.h"
#include "segment.h"

namespace recjpq {

// One row of a call, as all its threads see it.
struct Request {
  const Kernels* kernels;
  ScoreTable table;
  int64_t k;
  Filter filter;
  ScoreRange range;
};

// A score that k eligible items are known to reach; it only rises, and all threads of a request share it.
class Threshold {
 public:
  float get() const { return value_.load(std::memory_order_relaxed); }

  void raise(float value) {
    float known = get();
    while (value > known && !value_.compare_exchange_weak(known, value, std::memory_order_relaxed)) {
    }
  }

 private:
  std::atomic<float> value_{kNoThreshold};
};

// The pages of a segment that can hold an item at or above a threshold, most promising first.
std::vector<uint32_t> promising_pages(const Segment& segment, const Deficits& deficits, uint8_t limit);

// Raises the threshold to the k-th best score among a few promising blocks, so that little else need be opened.
// Leaves it where fewer than k items are eligible there.
void seed_threshold(const Segment& segment, const Request& request, Threshold& threshold);

// One thread's part of a search: opens pages and keeps the best items of them.
class PageSearch {
 public:
  // deficits: of the request, at a scale for about the present threshold.
  PageSearch(const Segment& segment, const Request& request, const Deficits& deficits, Threshold& threshold,
             Best& best);

  // Offers every item of the page that may be among the k best. Needs a threshold.
  void open(size_t page);

 private:
  void open_blocks(size_t first, size_t count);
  void update_limit();

  const Segment& segment_;
  const Request& request_;
  Threshold& threshold_;
  Best& best_;
  Deficits deficits_;
  float known_threshold_;
  uint8_t limit_;
  int unhelpful_ = 0;  // pages in a row whose bounds excluded too little
  int unbounded_ = 0;  // pages still to be opened without asking for bounds
};

// Offers every eligible item of a block, whatever its score.
void offer_block(const Segment& segment, const Request& request, size_t block, uint64_t lanes, Best& best);

}  // namespace recjpq
