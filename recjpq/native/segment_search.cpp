#include "segment_search.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "score.h"

namespace recjpq {
namespace {

constexpr size_t kSeedPages = 4;

// Calls visit(index) for every set bit.
template <typename Visit>
void for_each_bit(uint64_t bits, Visit visit) {
  for (; bits; bits &= bits - 1) visit(static_cast<size_t>(std::countr_zero(bits)));
}

struct Bounded {
  uint8_t bound;
  uint32_t index;
};

std::vector<Bounded> bound_pages(const Segment& segment, const Deficits& deficits) {
  std::vector<uint8_t> bounds(segment.num_chapters() * kLanes);
  for (size_t chapter = 0; chapter < segment.num_chapters(); ++chapter) {
    deficits.bound(segment.chapter(chapter), bounds.data() + chapter * kLanes);
  }
  std::vector<Bounded> pages(segment.num_pages());
  for (size_t page = 0; page < pages.size(); ++page) pages[page] = {bounds[page], static_cast<uint32_t>(page)};
  return pages;
}

struct LowerFirst {
  bool operator()(const Bounded& a, const Bounded& b) const { return a.bound < b.bound; }
};

// The standard heaps keep the greatest in front.
struct LowestInFront {
  bool operator()(const Bounded& a, const Bounded& b) const { return a.bound > b.bound; }
};

// The blocks of some pages.
std::vector<Bounded> bound_blocks(const Segment& segment, const Deficits& deficits, std::span<const Bounded> pages) {
  std::vector<Bounded> blocks;
  for (const Bounded& page : pages) {
    std::array<uint8_t, kLanes> bounds;
    deficits.bound(segment.page(page.index), bounds.data());
    const size_t first = page.index * kLanes;
    const size_t count = std::min<size_t>(kLanes, segment.num_blocks() - first);
    for (size_t b = 0; b < count; ++b) blocks.push_back({bounds[b], static_cast<uint32_t>(first + b)});
  }
  return blocks;
}

}  // namespace

std::vector<uint32_t> promising_pages(const Segment& segment, const Deficits& deficits, uint8_t limit) {
  const std::vector<Bounded> pages = bound_pages(segment, deficits);
  std::array<uint32_t, 257> starts{};  // a counting sort by bound
  for (const Bounded& page : pages) ++starts[page.bound + 1];
  for (size_t bound = 0; bound < 256; ++bound) starts[bound + 1] += starts[bound];
  std::vector<uint32_t> order(starts[limit + 1]);
  for (const Bounded& page : pages) {
    if (page.bound <= limit) order[starts[page.bound]++] = page.index;
  }
  return order;
}

void offer_block(const Segment& segment, const Request& request, size_t block, uint64_t lanes, Best& best) {
  const uint8_t* codes = segment.block(block);
  const int32_t* items = segment.items(block);
  for_each_bit(lanes, [&](size_t lane) {
    const Scored candidate{exact_score(request.table, codes + lane, kLanes), items[lane]};
    if (best.wants(candidate) && request.filter.admits(candidate.item)) best.offer(candidate);
  });
}

void seed_threshold(const Segment& segment, const Request& request, Threshold& threshold) {
  // Any score does for a first scale; the best of one block is usually of the right size.
  float scale = kNoThreshold;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    scale = std::max(scale, exact_score(request.table, segment.block(segment.num_blocks() / 2) + lane, kLanes));
  }
  if (scale == kNoThreshold) return;
  Deficits deficits(*request.kernels, request.table, request.range, segment.band_shift());
  deficits.rescale(scale);
  std::vector<Bounded> pages = bound_pages(segment, deficits);
  size_t enough = static_cast<size_t>(2 * request.k + kLanes - 1) / kLanes + 1;  // blocks
  Best best(request.k);
  // A filter may leave too few items in the best pages: then four times as many, until there are enough.
  for (size_t seen = 0, end = kSeedPages; seen < pages.size() && !best.full(); seen = end, end *= 4) {
    end = std::min(end, pages.size());
    std::partial_sort(pages.begin() + static_cast<ptrdiff_t>(seen), pages.begin() + static_cast<ptrdiff_t>(end),
                      pages.end(), LowerFirst{});
    std::vector<Bounded> blocks = bound_blocks(segment, deficits, {pages.data() + seen, end - seen});
    std::make_heap(blocks.begin(), blocks.end(), LowestInFront{});
    while (!blocks.empty() && (enough > 0 || !best.full())) {
      const size_t block = blocks.front().index;
      std::pop_heap(blocks.begin(), blocks.end(), LowestInFront{});
      blocks.pop_back();
      offer_block(segment, request, block, segment.lanes(block), best);
      enough -= enough > 0;
    }
  }
  best.cut();
  threshold.raise(best.threshold());
}

PageSearch::PageSearch(const Segment& segment, const Request& request, const Deficits& deficits, Threshold& threshold,
                       Best& best)
    : segment_(segment),
      request_(request),
      threshold_(threshold),
      best_(best),
      deficits_(deficits),
      known_threshold_(threshold.get()),
      limit_(deficits_.limit(known_threshold_)) {}

void PageSearch::update_limit() {
  const float threshold = threshold_.get();
  if (threshold == known_threshold_) return;
  known_threshold_ = threshold;
  limit_ = deficits_.limit(threshold);
  if (!deficits_.coarse(limit_)) return;
  deficits_.rescale(threshold);
  limit_ = deficits_.limit(threshold);
}

void PageSearch::open(size_t page) {
  constexpr int kMostUnbounded = 31;
  best_.cut();
  threshold_.raise(best_.threshold());
  update_limit();
  const size_t first = page * kLanes;
  const size_t count = std::min<size_t>(kLanes, segment_.num_blocks() - first);
  if (unbounded_ > 0) {
    --unbounded_;
    open_blocks(first, count);
    return;
  }
  std::array<uint8_t, kLanes> bounds;
  deficits_.bound(segment_.page(page), bounds.data());
  uint64_t open = request_.kernels->at_most(bounds.data(), limit_);
  if (count < kLanes) open &= (uint64_t{1} << count) - 1;
  if (static_cast<size_t>(std::popcount(open)) * 4 > count * 3) {
    // Random tables: bounds would cost a few percent for nothing, so ask for them more and more rarely.
    unhelpful_ = std::min(2 * unhelpful_ + 1, kMostUnbounded);
    unbounded_ = unhelpful_;
  } else {
    unhelpful_ = 0;
  }
  while (open) {  // run after run of neighbouring blocks
    const int skipped = std::countr_zero(open);
    const int length = std::countr_one(open >> skipped);
    open_blocks(first + static_cast<size_t>(skipped), static_cast<size_t>(length));
    open = skipped + length == 64 ? 0 : open >> (skipped + length) << (skipped + length);
  }
}

void PageSearch::open_blocks(size_t first, size_t count) {
  std::array<uint64_t, kLanes> masks;
  deficits_.scan(segment_.block(first), count, segment_.num_sorted(), limit_, masks.data());
  for (size_t b = 0; b < count; ++b) {
    const uint64_t lanes = masks[b] & segment_.lanes(first + b);
    if (!lanes) continue;
    offer_block(segment_, request_, first + b, lanes, best_);
  }
}

}  // namespace recjpq
