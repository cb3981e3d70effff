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

uint64_t at_most(const uint8x16_t* values, uint8_t limit) {
  const uint8x16_t limits = vdupq_n_u8(limit);
  return to_mask(vcleq_u8(values[0], limits), vcleq_u8(values[1], limits), vcleq_u8(values[2], limits),
                 vcleq_u8(values[3], limits));
}

void bound(const uint8_t* presence, const uint8_t* least, int num_splits, uint8_t* bounds) {
  const uint8x16_t half = vdupq_n_u8(15);
  uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (int j = 0; j < num_splits; ++j, presence += 2 * kLanes, least += kBandSets) {
    const uint8x16x4_t rows = vld1q_u8_x4(least);
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t first = vld1q_u8(presence + 16 * i), second = vld1q_u8(presence + kLanes + 16 * i);
      const uint8x16_t a = vminq_u8(vqtbl1q_u8(rows.val[0], vandq_u8(first, half)),
                                    vqtbl1q_u8(rows.val[1], vshrq_n_u8(first, 4)));
      const uint8x16_t b = vminq_u8(vqtbl1q_u8(rows.val[2], vandq_u8(second, half)),
                                    vqtbl1q_u8(rows.val[3], vshrq_n_u8(second, 4)));
      sums[i] = vqaddq_u8(sums[i], vminq_u8(a, b));
    }
  }
  for (int i = 0; i < 4; ++i) vst1q_u8(bounds + 16 * i, sums[i]);
}

uint64_t sift(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (int i = 1; i < table.num_splits; ++i) {
    const int j = table.order[i];
    const uint8x16_t rows = vld1q_u8(table.rows + j * kRows);
    for (int q = 0; q < 4; ++q) {
      const uint8x16_t row = vshrq_n_u8(vld1q_u8(block + j * kLanes + 16 * q), 4);
      sums[q] = vqaddq_u8(sums[q], vqtbl1q_u8(rows, row));
    }
  }
  const int first = table.order[0];
  const Table256 entries = load_table(table.items + first * kSubIds);
  for (int q = 0; q < 4; ++q) {
    sums[q] = vqaddq_u8(sums[q], lookup(entries, vld1q_u8(block + first * kLanes + 16 * q)));
  }
  return at_most(sums, limit);
}

uint64_t scan_block(const uint8_t* block, const ScanTable& table, uint8_t limit) {
  uint8x16_t sums[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (int i = 0; i < table.num_splits; ++i) {
    const int j = table.order[i];
    const Table256 row = load_table(table.items + j * kSubIds);
    for (int q = 0; q < 4; ++q) sums[q] = vqaddq_u8(sums[q], lookup(row, vld1q_u8(block + j * kLanes + 16 * q)));
    const uint8x16_t least = vminq_u8(vminq_u8(sums[0], sums[1]), vminq_u8(sums[2], sums[3]));
    if (vminvq_u8(least) > limit) return 0;
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

uint64_t values_at_most(const uint8_t* values, uint8_t limit) {
  const uint8x16_t four[4] = {vld1q_u8(values), vld1q_u8(values + 16), vld1q_u8(values + 32), vld1q_u8(values + 48)};
  return at_most(four, limit);
}

}  // namespace

const Kernels kNeonKernels = {"neon", row_maxima, quantise, bound, values_at_most, sift, scan};

}  // namespace recjpq

#endif
