// Large arrays of bytes, aligned to cache lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace recjpq {

class Buffer {
 public:
  Buffer() = default;

  explicit Buffer(size_t size_bytes) : size_(size_bytes) {
    // Blocks are visited in no order: with 4 KiB pages most visits would also miss the TLB.
    constexpr size_t kHugePage = size_t{1} << 21;
    const size_t alignment = size_bytes >= kHugePage ? kHugePage : 64;
    const size_t padded = (size_bytes + alignment - 1) / alignment * alignment;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, padded ? padded : alignment)));
    if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (size_bytes >= kHugePage) madvise(data_.get(), padded, MADV_HUGEPAGE);  // advice only: may fail
#endif
  }

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };

  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
};

}  // namespace recjpq
