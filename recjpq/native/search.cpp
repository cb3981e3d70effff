#include "search.h"

#include <algorithm>
#include <atomic>
#include <span>

#include "score.h"

namespace recjpq {
namespace {

// Below this many blocks (a quarter of a million items) waking another thread costs more than it saves.
constexpr size_t kBlocksWorthAThread = 4096;

const Segment& segment_of(const Segments& segments, int32_t item) {
  const auto after = std::upper_bound(segments.begin(), segments.end(), item,
                                      [](int32_t i, const auto& segment) { return i < segment->first_item(); });
  return **std::prev(after);
}

std::vector<Scored> score_allowed(const Segments& segments, const Request& request, AllowedItems allowed) {
  Best best(std::min(request.k, allowed.count));
  for (const int32_t* item = allowed.items; item != allowed.items + allowed.count; ++item) {
    const Scored candidate{exact_score(request.table, segment_of(segments, *item).item_codes(*item), 1), *item};
    if (best.wants(candidate) && request.filter.admits(*item)) best.offer(candidate);
  }
  return std::move(best).sorted();
}

// Without a threshold: fewer than k items may be eligible, or sums may overflow.
void score_all(const Segment& segment, const Request& request, Best& best) {
  for (size_t block = 0; block < segment.num_blocks(); ++block) {
    offer_block(segment, request, block, segment.lanes(block), best);
  }
}

// Opens what the segment's bounds leave, in several threads where that is much.
void search_blocks(const Segment& segment, const Request& request, std::span<const uint64_t> opened,
                   Deficits& deficits, Threshold& threshold, Pool& pool, Best& best) {
  const Plan todo = request.plain ? plan_all(segment, opened)
                                  : plan(segment, request, deficits, threshold.get(), opened);
  const size_t blocks = todo.blocks.size() + todo.pages.size() * kLanes;
  const size_t helpers = std::min(pool.num_threads(), blocks / kBlocksWorthAThread + 1);
  std::atomic<size_t> next_block{0}, next_page{0};
  const auto work = [&](BlockSearch search) {
    const auto next = [](std::atomic<size_t>& number) { return number.fetch_add(1, std::memory_order_relaxed); };
    for (size_t i; (i = next(next_block)) < todo.blocks.size() && search.open_block(i);) {
    }
    for (size_t i; (i = next(next_page)) < todo.pages.size() && search.open_page(i);) {
    }
  };
  if (helpers == 1) {
    work(BlockSearch(segment, request, todo, deficits, threshold, best));
    return;
  }
  std::vector<Best> found(helpers, Best(request.k));
  pool.run(helpers, [&](size_t helper) {
    Deficits own(deficits);
    work(BlockSearch(segment, request, todo, own, threshold, found[helper]));
  });
  for (const Best& one : found) best.merge(one);
}

}  // namespace

std::vector<Scored> search(const Segments& segments, const Request& request, AllowedItems allowed, Pool& pool) {
  if (allowed.items) return score_allowed(segments, request, allowed);
  Best best(request.k);
  Threshold threshold;
  Deficits deficits(*request.kernels, request.coded, request.range);
  std::vector<uint64_t> opened;
  const auto smaller = [](const auto& a, const auto& b) { return a->num_items() < b->num_items(); };
  const Segment& largest = **std::max_element(segments.begin(), segments.end(), smaller);
  const bool selective = request.k * 8 < largest.num_items();  // else hardly an item can be skipped
  if (selective && !request.range.may_overflow()) {
    opened = request.plain ? open_sample(largest, request, best) : open_seeds(largest, request, deficits, best);
    threshold.raise(best.threshold());
    // Too few eligible items, or their sums are -inf: everything is scored, the seeds once more.
    if (threshold.get() == kNoThreshold) best = Best(request.k);
  }
  bool scaled = false;
  for (const auto& segment : segments) {
    if (threshold.get() == kNoThreshold) {
      score_all(*segment, request, best);
      best.cut();
      if (!request.range.may_overflow()) threshold.raise(best.threshold());
      continue;
    }
    if (!scaled) deficits.rescale(threshold.get());
    scaled = true;
    const auto seeds = segment.get() == &largest ? std::span<const uint64_t>(opened) : std::span<const uint64_t>();
    search_blocks(*segment, request, seeds, deficits, threshold, pool, best);
  }
  return std::move(best).sorted();
}

}  // namespace recjpq
