// NEON: a lookup instruction covers 64 bytes and leaves a lane as it was, or zero, where the index is beyond them.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernels_generic.h"
#include "kernels_sets.h"

namespace recjpq {
namespace {

struct Table256 {
  uint8x16x4_t row[4];
};

RECJPQ_INLINE Table256 load_table(const uint8_t* table) {
  return {{vld1q_u8_x4(table), vld1q_u8_x4(table + 64), vld1q_u8_x4(table + 128), vld1q_u8_x4(table + 192)}};
}

RECJPQ_INLINE uint8x16_t lookup(const Table256& table, uint8x16_t index) {
  uint8x16_t found = vqtbl4q_u8(table.row[0], index);
  found = vqtbx4q_u8(found, table.row[1], vsubq_u8(index, vdupq_n_u8(64)));
  found = vqtbx4q_u8(found, table.row[2], vsubq_u8(index, vdupq_n_u8(128)));
  return vqtbx4q_u8(found, table.row[3], vsubq_u8(index, vdupq_n_u8(192)));
}

// Bit i of the result: the top bit of lane i of four registers, which hold 0 or 255.
RECJPQ_INLINE uint64_t to_mask(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d) {
  const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  const uint8x16_t ab = vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
  const uint8x16_t cd = vpaddq_u8(vandq_u8(c, bits), vandq_u8(d, bits));
  const uint8x16_t abcd = vpaddq_u8(ab, cd);
  return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(abcd, abcd)), 0);
}

uint64_t at_most(const uint8_t* values, uint8_t limit) {
  const uint8x16_t limits = vdupq_n_u8(limit);
  return to_mask(vcleq_u8(vld1q_u8(values), limits), vcleq_u8(vld1q_u8(values + 16), limits),
                 vcleq_u8(vld1q_u8(values + 32), limits), vcleq_u8(vld1q_u8(values + 48), limits));
}

void bound(const uint8_t* presence, const uint8_t* subsets, int num_splits, uint8_t* bounds) {
  uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, subsets += 2 * kBandSets) {
    uint8x16_t low[4];
    const Table256 first = load_table(subsets);
    for (int i = 0; i < 4; ++i) low[i] = lookup(first, vld1q_u8(presence + 16 * i));
    const Table256 second = load_table(subsets + kBandSets);
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t high = lookup(second, vld1q_u8(presence + kLanes + 16 * i));
      sums[i] = vqaddq_u8(sums[i], vminq_u8(low[i], high));
    }
  }
  for (int i = 0; i < 4; ++i) vst1q_u8(bounds + 16 * i, sums[i]);
}

void scan(const uint8_t* blocks, size_t count, const uint8_t* deficits, int num_splits, int, const uint8_t* rest,
          uint8_t limit, uint64_t* masks) {
  for (size_t b = 0; b < count; ++b, blocks += block_bytes(num_splits)) {
    uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
    bool alive = true;
    for (int i = 0; i < num_splits && alive; ++i) {
      const int j = rest[i];
      const Table256 table = load_table(deficits + j * kSubIds);
      for (int q = 0; q < 4; ++q) {
        sums[q] = vqaddq_u8(sums[q], lookup(table, vld1q_u8(blocks + j * kLanes + 16 * q)));
      }
      const uint8x16_t least = vminq_u8(vminq_u8(sums[0], sums[1]), vminq_u8(sums[2], sums[3]));
      alive = vminvq_u8(least) <= limit;
    }
    uint8_t values[kLanes];
    for (int q = 0; q < 4; ++q) vst1q_u8(values + 16 * q, sums[q]);
    masks[b] = alive ? at_most(values, limit) : 0;
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

}  // namespace

const Kernels kNeonKernels = {"neon", largest, quantise, band_subsets, bound, at_most, scan};

}  // namespace recjpq

#endif
