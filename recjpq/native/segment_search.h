// Exact top-k within one segment.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
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
  ScoreTable coded;  // the same by code
  int64_t k;
  Filter filter;
  ScoreRange range;
  bool plain;  // see batch.h
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

// A page or block, with the least sum of deficits that an item of it may have.
struct Bounded {
  uint8_t bound;
  uint32_t index;
};

// What has to be opened, the most promising first.
struct Plan {
  double scale;                 // of the bounds
  uint8_t limit;                // that they were compared with
  bool bounds_help;             // or the pages are in the order of memory, and their bounds are unknown
  std::vector<Bounded> blocks;  // of pages of which a part need be opened
  std::vector<Bounded> pages;   // of which almost everything need be
  std::span<const uint64_t> opened;  // blocks that need not be: a bit each, a word per page, or nothing
};

// Everything in the segment that may hold an item at or above the threshold, but for the blocks opened already.
Plan plan(const Segment& segment, const Request& request, const Deficits& deficits, float threshold,
          std::span<const uint64_t> opened);

// Offers the items of a few promising blocks, so that little else need be opened. Returns for every page a bit per
// block that was opened. `best` has no threshold where fewer than k items are eligible.
std::vector<uint64_t> open_seeds(const Segment& segment, const Request& request, Deficits& deficits, Best& best);

// All pages, and no bound that excludes any.
Plan plan_all(const Segment& segment, std::span<const uint64_t> opened);

// Offers the items of some blocks here and there, as a plain scan's first threshold.
std::vector<uint64_t> open_sample(const Segment& segment, const Request& request, Best& best);

// One thread's part of a search: opens blocks and keeps the best items of them.
class BlockSearch {
 public:
  // deficits: of the request, at a scale for about the present threshold.
  BlockSearch(const Segment& segment, const Request& request, const Plan& plan, Deficits& deficits,
              Threshold& threshold, Best& best);

  // Offers every item of the plan's block that may be among the k best. Returns whether the blocks after it may have
  // one too.
  bool open_block(size_t number);

  // The same for one of the plan's pages.
  bool open_page(size_t number);

 private:
  void prefetch(size_t block) const;
  void sift_block(size_t block);
  void scan_blocks(size_t first, size_t count);
  void update_limits(double coarse_share);

  const Segment& segment_;
  const Request& request_;
  const Plan& plan_;
  Deficits& deficits_;
  Threshold& threshold_;
  Best& best_;
  float known_threshold_;
  uint8_t limit_;
  uint8_t plan_limit_;  // the same at the plan's scale
};

// Offers every eligible item of a block, whatever its score.
void offer_block(const Segment& segment, const Request& request, size_t block, uint64_t lanes, Best& best);

}  // namespace recjpq
