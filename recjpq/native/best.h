// The k best items seen so far.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace recjpq {

struct Scored {
  float score;
  int32_t item;
};

// The contract's order: the larger score first, ties to the lower item index.
inline bool better(const Scored& a, const Scored& b) {
  return a.score > b.score || (a.score == b.score && a.item < b.item);
}

// As an object, so that heap operations inline it.
struct Better {
  bool operator()(const Scored& a, const Scored& b) const { return better(a, b); }
};

// No score is known that an item must reach.
constexpr float kNoThreshold = -std::numeric_limits<float>::infinity();

// A heap whose front is the worst of the k best.
class Best {
 public:
  explicit Best(int64_t k) : k_(static_cast<size_t>(k)) {}

  bool full() const { return heap_.size() == k_; }

  // Whether offering the candidate would change anything.
  bool wants(Scored candidate) const { return !full() || better(candidate, heap_.front()); }

  void offer(Scored candidate) {
    if (!full()) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end(), Better{});
    } else if (better(candidate, heap_.front())) {
      std::pop_heap(heap_.begin(), heap_.end(), Better{});
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end(), Better{});
    }
  }

  // The k-th best score: an item below it cannot be among the k best.
  float threshold() const { return full() ? heap_.front().score : kNoThreshold; }

  std::vector<Scored> sorted() && {
    std::sort_heap(heap_.begin(), heap_.end(), Better{});
    return std::move(heap_);
  }

  const std::vector<Scored>& items() const { return heap_; }

 private:
  size_t k_;
  std::vector<Scored> heap_;
};

}  // namespace recjpq
