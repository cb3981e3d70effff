#include "search.h"

#include <algorithm>
#include <optional>

#include "score.h"

namespace recjpq {
namespace {

// Below this many pages (a quarter of a million items) waking another thread costs more than it saves.
constexpr size_t kPagesWorthAThread = 64;

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

// Opens the segment's promising pages, in several threads where there are many.
void search_pages(const Segment& segment, const Request& request, Threshold& threshold, Pool& pool, Best& best) {
  Deficits deficits(*request.kernels, request.table, request.range, segment.band_shift());
  deficits.rescale(threshold.get());
  const std::vector<uint32_t> pages = promising_pages(segment, deficits, deficits.limit(threshold.get()));
  const size_t helpers = std::min(pool.num_threads(), pages.size() / kPagesWorthAThread + 1);
  std::atomic<size_t> next{0};
  std::vector<Best> found(helpers, Best(request.k));
  const auto work = [&](size_t helper) {
    PageSearch search(segment, request, deficits, threshold, found[helper]);
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < pages.size();) search.open(pages[i]);
  };
  pool.run(helpers, work);
  for (const Best& one : found) best.merge(one);
}

}  // namespace

std::vector<Scored> search(const Segments& segments, const Request& request, AllowedItems allowed, Pool& pool) {
  if (allowed.items) return score_allowed(segments, request, allowed);
  Best best(request.k);
  Threshold threshold;
  const auto smaller = [](const auto& a, const auto& b) { return a->num_items() < b->num_items(); };
  const Segment& largest = **std::max_element(segments.begin(), segments.end(), smaller);
  const bool selective = request.k * 8 < largest.num_items();  // else hardly an item can be skipped
  if (selective && !request.range.may_overflow()) seed_threshold(largest, request, threshold);
  for (const auto& segment : segments) {
    if (threshold.get() == kNoThreshold) {
      score_all(*segment, request, best);
      best.cut();
      if (!request.range.may_overflow()) threshold.raise(best.threshold());
    } else {
      search_pages(*segment, request, threshold, pool, best);
    }
  }
  return std::move(best).sorted();
}

}  // namespace recjpq
