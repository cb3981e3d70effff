#include "deficits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

namespace recjpq {
namespace {

// least[s] = the least of the four bands that the bits of s name; 255 for none.
void subset_minima(const uint8_t* bands, uint8_t* least) {
  least[0] = 255;
  for (int band = 0; band < 4; ++band) {
    for (int set = 0; set < 1 << band; ++set) least[(1 << band) + set] = std::min(least[set], bands[band]);
  }
}

// maxima: of the rows, to which those of the bands are added. The inner bands are whole rows.
void add_bands(const float* entries, float* maxima) {
  constexpr size_t kEnd = kSubIds / kRows;  // the codes of an end's bands narrower than a row
  float* bands = maxima + kRows;
  std::fill_n(bands, kBands, -std::numeric_limits<float>::infinity());
  const auto add = [bands](size_t code, float entry) {
    float& largest = bands[kPlaces.bands[code]];
    largest = std::max(largest, entry);
  };
  for (size_t code = 0; code < kEnd; ++code) {
    add(code, entries[code]);
    add(kSubIds - kEnd + code, entries[kSubIds - kEnd + code]);
  }
  for (size_t row = 1; row + 1 < kRows; ++row) add(row * kEnd, maxima[row]);
}

}  // namespace

ScoreRange::ScoreRange(const Kernels& kernels, const ScoreTable& coded)
    : maxima_(static_cast<size_t>(coded.num_splits) * (kRows + kBands)), largest_(static_cast<size_t>(coded.num_splits)) {
  double magnitude = 0.0;  // sum |m_j|; double's own rounding, 2^-53, vanishes in the slack
  for (int j = 0; j < coded.num_splits; ++j) {
    float* maxima = maxima_.data() + j * (kRows + kBands);
    kernels.row_maxima(coded.row(j), maxima);
    add_bands(coded.row(j), maxima);
    const float largest = *std::max_element(maxima, maxima + kRows);
    largest_[static_cast<size_t>(j)] = largest;
    upper_ += largest;
    magnitude += std::fabs(largest);
  }
  slack_ = 1.001 * coded.num_splits * 0x1p-24 * magnitude;
  may_overflow_ = magnitude > 0.5 * std::numeric_limits<float>::max();
}

double ScoreRange::reach(float threshold) const {
  // 1 / (1 - M u) < 1 + 2^-17 for M <= 64.
  return std::max(0.0, upper_ - threshold + slack_) * (1.0 + 0x1p-17);
}

Deficits::Deficits(const Kernels& kernels, const ScoreTable& coded, const ScoreRange& range)
    : kernels_(&kernels),
      coded_(coded),
      range_(&range),
      items_(static_cast<size_t>(coded.num_splits) * kSubIds),
      rows_(static_cast<size_t>(coded.num_splits) * kRows),
      subsets_(static_cast<size_t>(coded.num_splits) * kBandSets),
      order_(static_cast<size_t>(coded.num_splits)) {}

uint8_t Deficits::limit_at(double scale, double reach) {
  return static_cast<uint8_t>(std::min(255.0, scale * reach));  // rounds down: sums are whole numbers
}

// Three roundings in float32, each up by at most 2^-24, may not lift a byte above d_j * scale_.
float Deficits::scale_below() const { return static_cast<float>(scale_ * (1.0 - 0x1p-20)); }

void Deficits::rescale_bounds(float threshold) {
  scale_ = std::min(kLargestScale, kFullLimit / range_->reach(threshold));
  for (int j = 0; j < coded_.num_splits; ++j) {
    std::array<uint8_t, kRows + kBands> bytes;
    kernels_->quantise(range_->maxima(j), kRows + kBands, range_->largest(j), scale_below(), bytes.data());
    std::copy_n(bytes.data(), kRows, rows_.data() + j * kRows);
    for (int q = 0; q < 4; ++q) {
      subset_minima(bytes.data() + kRows + 4 * q, subsets_.data() + j * kBandSets + 16 * q);
    }
  }
  order_splits();
  quantise_items(order_.front());
}

void Deficits::rescale(float threshold) {
  rescale_bounds(threshold);
  for (size_t i = 1; i < order_.size(); ++i) quantise_items(order_[i]);
}

void Deficits::quantise_items(int split) {
  kernels_->quantise(coded_.row(split), kSubIds, range_->largest(split), scale_below(),
                     items_.data() + split * kSubIds);
}

void Deficits::order_splits() {
  std::array<uint32_t, kMaxSplits> sums;
  for (size_t j = 0; j < order_.size(); ++j) {
    const uint8_t* rows = rows_.data() + j * kRows;
    sums[j] = std::accumulate(rows, rows + kRows, uint32_t{0});
  }
  std::iota(order_.begin(), order_.end(), uint8_t{0});
  std::sort(order_.begin(), order_.end(), [&](uint8_t a, uint8_t b) { return sums[a] > sums[b]; });
}

}  // namespace recjpq
