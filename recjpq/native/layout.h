// How a segment's codes lie in memory; shared by the segment that writes them and the kernels that read them.
//
//   lane     an item's place in its block
//   block    64 items: split after split, 64 codes each, so one cache line or AVX-512 register
//   page     64 blocks, 4,096 items
//   chapter  64 pages
//   code     the place of a sub-id in its split, see numbering.h
//   row      one of the 16 ranges of 16 codes
//   band     one of 16 ranges of codes, a single code at either end and twice as wide with every step inwards: sub-ids
//            are often numbered by some quantity, and then the extremes tell most
//   cell     what a row and a band have in common
//   presence for each split, two bytes per child of a page or chapter: bit b says that some item in the child has
//            a code of band b
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace recjpq {

constexpr int kLanes = 64;  // items per block, blocks per page, pages per chapter
constexpr int kSubIds = 256;
constexpr int kMaxSplits = 64;
constexpr int kRows = 16;
constexpr int kBands = 16;
constexpr int kBandSets = 64;  // subsets of 4 bands, four times

// By code.
struct Places {
  std::array<uint8_t, kSubIds> bands, cells;
};

inline constexpr Places kPlaces = [] {
  Places places{};
  for (int code = 0, band = 0, cell = 0; code < kSubIds; ++code) {
    const int from_end = code < kSubIds / 2 ? code : kSubIds - code;  // a power of two where a band begins
    if (code > 0 && (from_end & (from_end - 1)) == 0) {
      ++band;
      ++cell;
    } else if (code > 0 && code % kBands == 0) {
      ++cell;
    }
    places.bands[static_cast<size_t>(code)] = static_cast<uint8_t>(band);
    places.cells[static_cast<size_t>(code)] = static_cast<uint8_t>(cell);
  }
  return places;
}();
static_assert(kPlaces.bands[0] == 0 && kPlaces.bands[1] == 1 && kPlaces.bands[254] == 14 && kPlaces.bands[255] == 15);

inline size_t block_bytes(int num_splits) { return static_cast<size_t>(num_splits) * kLanes; }
inline size_t presence_bytes(int num_splits) { return static_cast<size_t>(num_splits) * 2 * kLanes; }

}  // namespace recjpq
