#include "deficits.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace recjpq {

ScoreRange::ScoreRange(const Kernels& kernels, const ScoreTable& table)
    : largest_(static_cast<size_t>(table.num_splits)) {
  double magnitude = 0.0;  // sum |m_j|; double's own rounding, 2^-53, vanishes in the slack
  for (int j = 0; j < table.num_splits; ++j) {
    const float largest = kernels.largest(table.row(j), table.num_sub_ids);
    largest_[static_cast<size_t>(j)] = largest;
    upper_ += largest;
    magnitude += std::fabs(largest);
  }
  slack_ = 1.001 * table.num_splits * 0x1p-24 * magnitude;
  may_overflow_ = magnitude > 0.5 * std::numeric_limits<float>::max();
}

double ScoreRange::reach(float threshold) const {
  // 1 / (1 - M u) < 1 + 2^-17 for M <= 64.
  return std::max(0.0, upper_ - threshold + slack_) * (1.0 + 0x1p-17);
}

Deficits::Deficits(const Kernels& kernels, const ScoreTable& table, const ScoreRange& range, int band_shift)
    : kernels_(&kernels),
      table_(table),
      range_(&range),
      band_shift_(band_shift),
      items_(static_cast<size_t>(table.num_splits) * kSubIds),
      subsets_(static_cast<size_t>(table.num_splits) * 2 * kBandSets),
      order_(static_cast<size_t>(table.num_splits)) {}

uint8_t Deficits::limit_at(double scale, double reach) {
  return static_cast<uint8_t>(std::min(255.0, scale * reach));  // rounds down: sums are whole numbers
}

void Deficits::rescale(float threshold) {
  scale_ = std::min(kLargestScale, kFullLimit / range_->reach(threshold));
  // Three roundings in float32, each up by at most 2^-24, may not lift a byte above d_j * scale_.
  const auto scale = static_cast<float>(scale_ * (1.0 - 0x1p-20));
  for (int j = 0; j < table_.num_splits; ++j) {
    uint8_t* items = items_.data() + static_cast<size_t>(j) * kSubIds;
    kernels_->quantise(table_.row(j), table_.num_sub_ids, range_->largest(j), scale, items);
    kernels_->band_subsets(items, band_shift_, subsets_.data() + static_cast<size_t>(j) * 2 * kBandSets);
  }
  order_splits();
}

void Deficits::order_splits() {
  std::vector<uint32_t> sums(order_.size());
  for (size_t j = 0; j < sums.size(); ++j) {
    const uint8_t* items = items_.data() + j * kSubIds;
    sums[j] = std::accumulate(items, items + table_.num_sub_ids, uint32_t{0});
  }
  std::iota(order_.begin(), order_.end(), uint8_t{0});
  std::sort(order_.begin(), order_.end(), [&](uint8_t a, uint8_t b) { return sums[a] > sums[b]; });
}

}  // namespace recjpq
