#include "scan.h"

#include <algorithm>

namespace recjpq {
namespace {

// The k best items seen so far, as a heap whose front is the worst of them.
class Best {
 public:
  explicit Best(int64_t k) : k_(static_cast<size_t>(k)) { heap_.reserve(k_); }

  void offer(Scored candidate) {
    if (heap_.size() < k_) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end(), better);
    } else if (better(candidate, heap_.front())) {
      std::pop_heap(heap_.begin(), heap_.end(), better);
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end(), better);
    }
  }

  std::vector<Scored> sorted() && {
    std::sort_heap(heap_.begin(), heap_.end(), better);
    return std::move(heap_);
  }

 private:
  size_t k_;
  std::vector<Scored> heap_;
};

// kSplits is M where it is known when compiling, so that the sum is unrolled, or 0.
template <int kSplits>
float score(const uint8_t* codes, int num_splits, const float* table, int num_sub_ids) {
  const int splits = kSplits ? kSplits : num_splits;
  float sum = 0.0f;
  for (int j = 0; j < splits; ++j) sum += table[j * num_sub_ids + codes[j]];
  return sum;
}

template <int kSplits>
std::vector<Scored> scan(const Catalogue& catalogue, const float* table, int num_sub_ids, int64_t k,
                         const Eligible& eligible) {
  const int64_t candidates = eligible.allow ? eligible.num_allow : catalogue.num_items;
  Best best(std::min(k, candidates));
  if (k == 0 || candidates == 0) return {};
  const int32_t* exclude = eligible.exclude;
  const int32_t* const exclude_end = exclude + eligible.num_exclude;
  for (int64_t i = 0; i < candidates; ++i) {
    const int32_t item = eligible.allow ? eligible.allow[i] : static_cast<int32_t>(i);
    while (exclude != exclude_end && *exclude < item) ++exclude;
    if (exclude != exclude_end && *exclude == item) continue;
    if (eligible.bitmap && !eligible.bitmap[item]) continue;
    const uint8_t* codes = catalogue.codes + static_cast<int64_t>(item) * catalogue.num_splits;
    best.offer({score<kSplits>(codes, catalogue.num_splits, table, num_sub_ids), item});
  }
  return std::move(best).sorted();
}

}  // namespace

std::vector<Scored> top_k(const Catalogue& catalogue, const float* table, int num_sub_ids, int64_t k,
                          const Eligible& eligible) {
  switch (catalogue.num_splits) {
    case 4: return scan<4>(catalogue, table, num_sub_ids, k, eligible);
    case 8: return scan<8>(catalogue, table, num_sub_ids, k, eligible);
    case 16: return scan<16>(catalogue, table, num_sub_ids, k, eligible);
    default: return scan<0>(catalogue, table, num_sub_ids, k, eligible);
  }
}

}  // namespace recjpq
