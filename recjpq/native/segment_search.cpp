#include "segment_search.h"

#include <algorithm>
#include <array>
#include <bit>

#include "score.h"

namespace recjpq {
namespace {

// Calls visit(index) for every set bit.
template <typename Visit>
void for_each_bit(uint64_t bits, Visit visit) {
  for (; bits; bits &= bits - 1) visit(static_cast<size_t>(std::countr_zero(bits)));
}

// A bit for every block of a page.
uint64_t blocks_of(const Segment& segment, size_t page) {
  const size_t count = segment.num_blocks() - page * kLanes;
  return count < kLanes ? (uint64_t{1} << count) - 1 : ~uint64_t{0};
}

std::vector<uint8_t> bound_pages(const Segment& segment, const Deficits& deficits) {
  std::vector<uint8_t> bounds(segment.num_chapters() * kLanes);
  for (size_t chapter = 0; chapter < segment.num_chapters(); ++chapter) {
    deficits.bound(segment.chapter(chapter), bounds.data() + chapter * kLanes);
  }
  bounds.resize(segment.num_pages());
  return bounds;
}

struct LowerFirst {
  bool operator()(const Bounded& a, const Bounded& b) const { return a.bound < b.bound; }
};

// The least `count` of the bounds from `from` on in a list ordered up to there.
void order_next(std::vector<Bounded>& list, size_t from, size_t count) {
  const auto first = list.begin() + static_cast<ptrdiff_t>(from);
  std::partial_sort(first, first + static_cast<ptrdiff_t>(count), list.end(), LowerFirst{});
}

// Opens promising blocks of a segment.
class SeedSearch {
 public:
  SeedSearch(const Segment& segment, const Request& request, Deficits& deficits, Best& best)
      : segment_(segment), request_(request), deficits_(deficits), best_(best), opened_(segment.num_pages()) {}

  std::vector<uint64_t> run() {
    float threshold = sample();
    if (threshold == kNoThreshold) return opened_;
    const auto enough = static_cast<size_t>(request_.k * 3 / 2 / kLanes) + 1;  // blocks
    open_round(threshold, enough);
    // Finer scales find better blocks, which allow finer scales.
    for (int round = 0; round < kRounds; ++round) {
      best_.cut();
      if (best_.threshold() == kNoThreshold) break;
      const double known = request_.range.reach(threshold);
      threshold = best_.threshold();
      if (round && request_.range.reach(threshold) > kWorthwhile * known) break;
      open_round(threshold, enough);
    }
    best_.cut();
    return std::move(opened_);
  }

 private:
  static constexpr int kRounds = 3;
  static constexpr double kWorthwhile = 0.9;
  static constexpr size_t kPages = 4;

  // Any score does for a first scale; the best of some of one block is usually of the right size.
  float sample() const {
    float best = kNoThreshold;
    for (size_t lane = 0; lane < kLanes; lane += 4) {
      best = std::max(best, exact_score(request_.coded, segment_.block(segment_.num_blocks() / 2) + lane, kLanes));
    }
    return best;
  }

  // A filter may leave too few items in the best pages: then four times as many, until there are enough.
  void open_round(float threshold, size_t enough) {
    deficits_.rescale_bounds(threshold);
    const std::vector<uint8_t> bounds = bound_pages(segment_, deficits_);
    std::vector<Bounded> pages(bounds.size());
    for (size_t page = 0; page < pages.size(); ++page) pages[page] = {bounds[page], static_cast<uint32_t>(page)};
    for (size_t seen = 0, end = kPages; seen < pages.size() && (seen == 0 || !best_.full()); seen = end, end *= 4) {
      end = std::min(end, pages.size());
      order_next(pages, seen, end - seen);
      std::vector<Bounded> blocks;
      blocks.reserve((end - seen) * kLanes);
      for (size_t i = seen; i < end; ++i) add_blocks(pages[i].index, blocks);
      for (size_t i = 0; i < blocks.size() && (i < enough || !best_.full()); ++i) {
        if (i % enough == 0) order_next(blocks, i, std::min(enough, blocks.size() - i));
        open(blocks[i].index);
      }
    }
  }

  void add_blocks(size_t page, std::vector<Bounded>& blocks) const {
    std::array<uint8_t, kLanes> bounds;
    deficits_.bound(segment_.page(page), bounds.data());
    for_each_bit(blocks_of(segment_, page) & ~opened_[page], [&](size_t b) {
      blocks.push_back({bounds[b], static_cast<uint32_t>(page * kLanes + b)});
    });
  }

  void open(size_t block) {
    opened_[block / kLanes] |= uint64_t{1} << (block % kLanes);
    uint64_t lanes = segment_.lanes(block);
    if (best_.threshold() != kNoThreshold) {
      const uint8_t limit = deficits_.limit(best_.threshold());
      lanes &= request_.kernels->sift(segment_.block(block), deficits_.scan_table(segment_.num_sorted()), limit);
    }
    offer_block(segment_, request_, block, lanes, best_);
  }

  const Segment& segment_;
  const Request& request_;
  Deficits& deficits_;
  Best& best_;
  std::vector<uint64_t> opened_;
};

}  // namespace

std::vector<uint64_t> open_seeds(const Segment& segment, const Request& request, Deficits& deficits, Best& best) {
  return SeedSearch(segment, request, deficits, best).run();
}

Plan plan(const Segment& segment, const Request& request, const Deficits& deficits, float threshold,
          std::span<const uint64_t> opened) {
  constexpr int kMostUnbounded = 31;
  Plan made{deficits.scale(), deficits.limit(threshold), true, {}, {}, opened};
  const std::vector<uint8_t> page_bounds = bound_pages(segment, deficits);
  std::vector<Bounded> blocks;
  size_t bounded = 0, helped = 0;
  // On random tables bounds cost some percent for nothing: ask for them more and more rarely while they do not help.
  int unhelpful = 0, unbounded = 0;
  for (size_t page = 0; page < page_bounds.size(); ++page) {
    if (page_bounds[page] > made.limit) continue;
    const Bounded whole{page_bounds[page], static_cast<uint32_t>(page)};
    if (unbounded > 0) {
      --unbounded;
      made.pages.push_back(whole);
      continue;
    }
    std::array<uint8_t, kLanes> bounds;
    deficits.bound(segment.page(page), bounds.data());
    const uint64_t all = blocks_of(segment, page);
    uint64_t open = all & request.kernels->at_most(bounds.data(), made.limit);
    ++bounded;
    if (std::popcount(open) * 4 > std::popcount(all) * 3) {
      unhelpful = std::min(2 * unhelpful + 1, kMostUnbounded);
      unbounded = unhelpful;
      made.pages.push_back(whole);
      continue;
    }
    ++helped;
    unhelpful = 0;
    if (!opened.empty()) open &= ~opened[page];
    for_each_bit(open, [&](size_t b) { blocks.push_back({bounds[b], static_cast<uint32_t>(page * kLanes + b)}); });
  }
  std::array<uint32_t, 257> starts{};  // a counting sort by bound
  for (const Bounded& block : blocks) ++starts[block.bound + 1];
  for (size_t bound = 0; bound < 256; ++bound) starts[bound + 1] += starts[bound];
  made.blocks.resize(blocks.size());
  for (const Bounded& block : blocks) made.blocks[starts[block.bound]++] = block;
  made.bounds_help = helped * 4 >= bounded;
  if (made.bounds_help) {
    std::sort(made.pages.begin(), made.pages.end(), LowerFirst{});
  } else {
    for (Bounded& page : made.pages) page.bound = 0;
  }
  return made;
}

Plan plan_all(const Segment& segment, std::span<const uint64_t> opened) {
  Plan made{0.0, 0, false, {}, {}, opened};
  for (size_t page = 0; page < segment.num_pages(); ++page) made.pages.push_back({0, static_cast<uint32_t>(page)});
  return made;
}

std::vector<uint64_t> open_sample(const Segment& segment, const Request& request, Best& best) {
  std::vector<uint64_t> opened(segment.num_pages());
  const auto enough = static_cast<size_t>(request.k * 3 / 2 / kLanes) + 4;
  const size_t step = std::max<size_t>(1, segment.num_blocks() / enough);
  for (size_t block = 0; block < segment.num_blocks(); block += step) {
    opened[block / kLanes] |= uint64_t{1} << (block % kLanes);
    offer_block(segment, request, block, segment.lanes(block), best);
  }
  best.cut();
  return opened;
}

void offer_block(const Segment& segment, const Request& request, size_t block, uint64_t lanes, Best& best) {
  const uint8_t* codes = segment.block(block);
  for_each_bit(lanes, [&](size_t lane) {
    const Scored candidate{exact_score(request.coded, codes + lane, kLanes), segment.item(block, lane)};
    if (best.wants(candidate) && request.filter.admits(candidate.item)) best.offer(candidate);
  });
}

BlockSearch::BlockSearch(const Segment& segment, const Request& request, const Plan& plan, Deficits& deficits,
                         Threshold& threshold, Best& best)
    : segment_(segment),
      request_(request),
      plan_(plan),
      deficits_(deficits),
      threshold_(threshold),
      best_(best),
      known_threshold_(threshold.get()),
      limit_(deficits.limit(known_threshold_)),
      plan_limit_(Deficits::limit_at(plan.scale, request.range.reach(known_threshold_))) {}

void BlockSearch::update_limits(double coarse_share) {
  if (best_.grown()) {
    best_.cut();
    threshold_.raise(best_.threshold());
  }
  const float threshold = threshold_.get();
  if (threshold == known_threshold_) return;
  known_threshold_ = threshold;
  limit_ = deficits_.limit(threshold);
  plan_limit_ = Deficits::limit_at(plan_.scale, request_.range.reach(threshold));
  if (!deficits_.coarse(limit_, coarse_share)) return;
  deficits_.rescale(threshold);
  limit_ = deficits_.limit(threshold);
}

bool BlockSearch::open_block(size_t number) {
  constexpr size_t kAhead = 4;
  update_limits(0.5);
  if (plan_.blocks[number].bound > plan_limit_) return false;
  if (number + kAhead < plan_.blocks.size()) prefetch(plan_.blocks[number + kAhead].index);
  sift_block(plan_.blocks[number].index);
  return true;
}

bool BlockSearch::open_page(size_t number) {
  update_limits(0.8);  // a page takes several times as long as rescaling
  if (plan_.pages[number].bound > plan_limit_) return false;
  const size_t page = plan_.pages[number].index, first = page * kLanes;
  uint64_t open = blocks_of(segment_, page);
  const bool bounded = plan_.bounds_help || plan_limit_ < plan_.limit / 4 * 3;  // since then more can be excluded
  if (bounded) {
    std::array<uint8_t, kLanes> bounds;
    deficits_.bound(segment_.page(page), bounds.data());
    open &= request_.kernels->at_most(bounds.data(), limit_);
  }
  if (!plan_.opened.empty()) open &= ~plan_.opened[page];
  if (bounded && std::popcount(open) < kLanes / 2) {
    for_each_bit(open, [&](size_t b) { sift_block(first + b); });
    return true;
  }
  while (open) {  // run after run of neighbouring blocks
    const int skipped = std::countr_zero(open);
    const int length = std::countr_one(open >> skipped);
    scan_blocks(first + static_cast<size_t>(skipped), static_cast<size_t>(length));
    open = skipped + length == 64 ? 0 : open >> (skipped + length) << (skipped + length);
  }
  return true;
}

// Blocks are opened in no order of memory, which the processor could foresee.
void BlockSearch::prefetch(size_t block) const {
  const uint8_t* codes = segment_.block(block);
  for (size_t line = 0; line < block_bytes(segment_.num_splits()); line += 64) __builtin_prefetch(codes + line);
}

void BlockSearch::sift_block(size_t block) {
  constexpr int kFewItems = 4;  // scored as fast as scanned
  const ScanTable table = deficits_.scan_table(segment_.num_sorted());
  const uint64_t lanes = request_.kernels->sift(segment_.block(block), table, limit_);
  if (std::popcount(lanes) > kFewItems) {
    scan_blocks(block, 1);
  } else if (lanes) {
    offer_block(segment_, request_, block, lanes & segment_.lanes(block), best_);
  }
}

void BlockSearch::scan_blocks(size_t first, size_t count) {
  std::array<uint64_t, kLanes> masks;
  request_.kernels->scan(segment_.block(first), count, deficits_.scan_table(segment_.num_sorted()), limit_,
                         masks.data());
  for (size_t b = 0; b < count; ++b) {
    const uint64_t lanes = masks[b] & segment_.lanes(first + b);
    if (lanes) offer_block(segment_, request_, first + b, lanes, best_);
  }
}

}  // namespace recjpq
