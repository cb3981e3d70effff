// The k best items seen so far.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace recjpq {

struct Scored {
  float score;
  int32_t item;
};

// No score is known that an item must reach.
constexpr float kNoThreshold = -std::numeric_limits<float>::infinity();

// A score and an item in one number, greater for what the contract puts first: the larger score, then the lower item.
// The score is not NaN and not -0, which no sum that starts at +0 can be.
inline uint64_t rank_of(Scored candidate) {
  const auto bits = std::bit_cast<uint32_t>(candidate.score);
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t{ascending} << 32 | ~static_cast<uint32_t>(candidate.item);
}

inline Scored scored_of(uint64_t rank) {
  const auto ascending = static_cast<uint32_t>(rank >> 32);
  const uint32_t bits = ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending;
  return {std::bit_cast<float>(bits), static_cast<int32_t>(~static_cast<uint32_t>(rank))};
}

// A buffer that is cut back to the k best whenever it has grown to twice that: a constant cost for each candidate,
// where a heap has mispredicted branches for each of its levels.
class Best {
 public:
  explicit Best(int64_t k) : k_(static_cast<size_t>(k)) {}

  // Whether offering the candidate can change anything.
  bool wants(Scored candidate) const { return rank_of(candidate) > worst_; }

  // Each item at most once.
  void offer(Scored candidate) {
    ranks_.push_back(rank_of(candidate));
    if (ranks_.size() >= 2 * k_ + kSpare) cut();
  }

  bool full() const { return ranks_.size() >= k_; }

  // Whether a cut is likely to raise the threshold enough to be worth its time.
  bool grown() const { return ranks_.size() > cut_size_ + k_ / 4 || (full() && cut_size_ == 0); }

  // Forgets all but the k best.
  void cut() {
    if (!full() || ranks_.size() == cut_size_) return;
    std::nth_element(ranks_.begin(), ranks_.begin() + static_cast<ptrdiff_t>(k_ - 1), ranks_.end(), std::greater{});
    ranks_.resize(k_);
    cut_size_ = k_;
    worst_ = ranks_.back();
  }

  // A score that k items are known to reach: the k-th best as of the last cut.
  float threshold() const { return worst_ ? scored_of(worst_).score : kNoThreshold; }

  void merge(const Best& other) {
    for (const uint64_t rank : other.ranks_) {
      if (rank > worst_) offer(scored_of(rank));
    }
  }

  std::vector<Scored> sorted() && {
    cut();
    std::sort(ranks_.begin(), ranks_.end(), std::greater{});
    std::vector<Scored> best(ranks_.size());
    std::transform(ranks_.begin(), ranks_.end(), best.begin(), scored_of);
    return best;
  }

 private:
  static constexpr size_t kSpare = 16;  // so that a small k is not cut for every few candidates

  size_t k_;
  uint64_t worst_ = 0;    // no candidate's rank: its score would be NaN
  size_t cut_size_ = 0;   // the size after the last cut
  std::vector<uint64_t> ranks_;
};

}  // namespace recjpq
