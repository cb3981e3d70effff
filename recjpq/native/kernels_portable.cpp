// For any machine.
#include "kernels_generic.h"
#include "kernels_sets.h"

namespace recjpq {
namespace {

void bound(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds) {
  uint16_t sums[kLanes] = {};  // at most 64 * 255
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, least += 2 * kBandSets) {
    for (int i = 0; i < kLanes; ++i) {
      sums[i] += std::min(least[presence[i]], least[kBandSets + presence[kLanes + i]]);
    }
  }
  for (int i = 0; i < kLanes; ++i) bounds[i] = static_cast<uint8_t>(std::min<uint16_t>(sums[i], 255));
}

void scan(const uint8_t* blocks, size_t count, const uint8_t* deficits, int num_splits, int, const uint8_t*,
          uint8_t limit, uint64_t* masks) {
  for (size_t b = 0; b < count; ++b, blocks += block_bytes(num_splits)) {
    uint16_t sums[kLanes] = {};
    for (int j = 0; j < num_splits; ++j) {
      const uint8_t* codes = blocks + j * kLanes;
      for (int i = 0; i < kLanes; ++i) sums[i] += deficits[j * kSubIds + codes[i]];
    }
    uint64_t mask = 0;
    for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint64_t>(std::min<uint16_t>(sums[i], 255) <= limit) << i;
    masks[b] = mask;
  }
}

float largest(const float* row, int num_sub_ids) { return generic::largest(row, num_sub_ids); }

void quantise(const float* row, int num_sub_ids, float largest, float scale, uint8_t* deficits) {
  generic::quantise(row, num_sub_ids, largest, scale, deficits);
}

void band_subsets(const uint8_t* deficits, int band_shift, uint8_t* least) {
  uint8_t bands[kBands];
  generic::band_minima(deficits, band_shift, bands);
  generic::subset_minima(bands, least);
}

uint64_t at_most(const uint8_t* values, uint8_t limit) { return generic::at_most(values, limit); }

}  // namespace

const Kernels kPortableKernels = {"portable", largest, quantise, band_subsets, bound, at_most, scan};

}  // namespace recjpq
