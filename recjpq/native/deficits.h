// A score table in bytes, rounded so that an item which can still be among the best is never dropped.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "layout.h"

namespace recjpq {

// float32 (M, V).
struct ScoreTable {
  const float* entries;
  int num_splits;
  int num_sub_ids;

  const float* row(int split) const { return entries + static_cast<size_t>(split) * static_cast<size_t>(num_sub_ids); }
};

// How far below the best thinkable score an item may be.
//
// Let t_j be an item's entries, m_j the largest entry of row j, U = sum m_j, d_j = m_j - t_j its deficits and
// D = sum d_j, all exact. The item's score S' is the float32 sum in the order of j. With u = 2^-24 each of its M - 1
// additions errs by at most u times its partial sum, so, as M <= 64,
//     |S' - (U - D)| <= M u sum |t_j| <= M u (sum |m_j| + D).
// An item with S' >= threshold therefore has
//     D <= (U - threshold + M u sum |m_j|) / (1 - M u)   =: range(threshold).
// Only the rows' largest entries matter: very low entries, such as of switched-off sub-ids, do not widen the range.
// A sum that overflows to -inf is below any finite threshold; +inf is out of reach unless `may_overflow`.
class ScoreRange {
 public:
  // coded: 256 entries in a row, -inf for codes that no item has.
  ScoreRange(const Kernels& kernels, const ScoreTable& coded);

  // An upper bound of D for every item whose score is at least the threshold, which must be finite.
  double reach(float threshold) const;

  float largest(int split) const { return largest_[static_cast<size_t>(split)]; }

  // The largest entries of the rows, then of the bands.
  const float* maxima(int split) const { return maxima_.data() + static_cast<size_t>(split) * (kRows + kBands); }
  bool may_overflow() const { return may_overflow_; }

 private:
  std::vector<float> maxima_;   // [M][32]
  std::vector<float> largest_;  // m_j
  double upper_ = 0.0;          // U
  double slack_ = 0.0;          // M u sum |m_j|
  bool may_overflow_;
};

// The deficits as bytes at some scale. For a scale s, every byte is at most d_j s, so a sum of bytes, saturating or
// not, is at most D s; bytes of rows and bands are of their largest entries, and quantising is monotone, so they
// are minima. Whatever has a sum above floor(reach(threshold) s) is below the threshold.
class Deficits {
 public:
  Deficits(const Kernels& kernels, const ScoreTable& coded, const ScoreRange& range);

  // Sets the scale so that the threshold's limit is about kFullLimit, and fills the bytes. The cheaper form leaves out
  // most, and is enough for bounds and for sifting.
  void rescale(float threshold);
  void rescale_bounds(float threshold);

  // The largest sum of an item at or above the threshold; 255 excludes nothing.
  uint8_t limit(float threshold) const { return limit_at(scale_, range_->reach(threshold)); }

  static uint8_t limit_at(double scale, double reach);
  double scale() const { return scale_; }

  // A limit below this share of the full one leaves few of the 256 levels for telling items apart.
  bool coarse(uint8_t limit, double share) const { return limit < kFullLimit * share && scale_ < kLargestScale; }

  void bound(const uint8_t* presence, uint8_t* bounds) const {
    kernels_->bound(presence, subsets_.data(), coded_.num_splits, bounds);
  }

  ScanTable scan_table(int num_sorted) const {
    return {items_.data(), rows_.data(), order_.data(), coded_.num_splits, num_sorted};
  }

 private:
  static constexpr int kFullLimit = 250;
  static constexpr double kLargestScale = 1e30;  // keeps the scale a finite float32

  void quantise_items(int split);
  float scale_below() const;
  void order_splits();

  const Kernels* kernels_;
  ScoreTable coded_;
  const ScoreRange* range_;
  double scale_ = 0.0;
  std::vector<uint8_t> items_;    // [M][256]: by code
  std::vector<uint8_t> rows_;     // [M][16]: by row
  std::vector<uint8_t> subsets_;  // [M][4][16]: by set of four bands
  std::vector<uint8_t> order_;    // splits, those with the largest deficits first
};

}  // namespace recjpq
