// For any machine.
#include "kernels_generic.h"
#include "kernels_sets.h"

namespace recjpq {
namespace {

// Which of the 64 sums are at most the limit, as if each had been saturating.
uint64_t at_most(const uint16_t* sums, uint8_t limit) {
  uint64_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint64_t>(std::min<uint16_t>(sums[i], 255) <= limit) << i;
  return mask;
}

void bound(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds) {
  uint16_t sums[kLanes] = {};  // at most 64 * 255
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, least += kBandSets) {
    for (int i = 0; i < kLanes; ++i) {
      const uint8_t first = presence[i], second = presence[kLanes + i];
      sums[i] += std::min({least[first & 15], least[16 + (first >> 4)], least[32 + (second & 15)],
                           least[48 + (second >> 4)]});
    }
  }
  for (int i = 0; i < kLanes; ++i) bounds[i] = static_cast<uint8_t>(std::min<uint16_t>(sums[i], 255));
}

uint64_t sift(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  uint16_t sums[kLanes] = {};
  for (int s = 0; s < table.num_splits; ++s) {
    const int j = table.order[s];
    const uint8_t* codes = block + j * kLanes;
    for (int i = 0; i < kLanes; ++i) {
      sums[i] += s == 0 ? table.items[j * kSubIds + codes[i]] : table.rows[j * kRows + (codes[i] >> 4)];
    }
  }
  return at_most(sums, limit);
}

uint64_t scan_block(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  uint16_t sums[kLanes] = {};
  for (int j = 0; j < table.num_splits; ++j, block += kLanes) {
    for (int i = 0; i < kLanes; ++i) sums[i] += table.items[j * kSubIds + block[i]];
  }
  return at_most(sums, limit);
}

void scan(const uint8_t* blocks, size_t count, const ScanTable& table, uint8_t limit, uint64_t* masks) {
  for (size_t b = 0; b < count; ++b, blocks += block_bytes(table.num_splits)) {
    masks[b] = scan_block(blocks, table, limit);
  }
}

void row_maxima(const float* entries, float* maxima) { generic::row_maxima(entries, maxima); }

void quantise(const float* entries, int count, float largest, float scale, uint8_t* deficits) {
  generic::quantise(entries, count, largest, scale, deficits);
}

uint64_t values_at_most(const uint8_t* values, uint8_t limit) { return generic::at_most(values, limit); }

}  // namespace

const Kernels kPortableKernels = {"portable", row_maxima, quantise, bound, values_at_most, sift, scan};

}  // namespace recjpq
