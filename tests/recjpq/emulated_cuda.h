// Just enough of CUDA to run recjpq/scoring/cuda/kernels.cu on a CPU, one thread of a block after the other.
//
// A block's threads are contexts on one thread of the operating system. Each runs to its next __syncthreads; who goes
// first changes at every barrier, so that what depends on the order of threads, and lacks a barrier, goes wrong.
// Included before the kernels by the compiler's -include.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define RECJPQ_EMULATED
#define __global__
#define __device__ static
#define __launch_bounds__(...)
#define __shared__ static thread_local  // one block at a time runs on a thread of the operating system
#define RECJPQ_DYNAMIC_SHARED(name) uint4* name = reinterpret_cast<uint4*>(emulated::dynamic_shared)
#define __syncthreads() emulated::barrier()

struct uint4 {
  unsigned x, y, z, w;
};

struct Dim {
  unsigned x = 1, y = 1;
};

static thread_local Dim threadIdx, blockIdx, blockDim, gridDim;

static float __fadd_rn(float a, float b) { return a + b; }
static unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31));
}

static int __ffs(int bits) { return __builtin_ffs(bits); }

template <typename To, typename From>
static To same_bits(From value) {
  To bits;
  static_assert(sizeof bits == sizeof value);
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
static float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
static int __float_as_int(float value) { return same_bits<int>(value); }
static float __int_as_float(int bits) { return same_bits<float>(bits); }

static unsigned atomicAdd(unsigned* target, unsigned value) {
  const unsigned before = *target;
  *target += value;
  return before;
}
static int atomicMax(int* target, int value) {
  const int before = *target;
  if (value > before) *target = value;
  return before;
}

namespace emulated {

constexpr size_t kStackBytes = 32 * 1024;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool done = false;
};

static thread_local char* dynamic_shared;
static thread_local ucontext_t scheduler;
static thread_local std::vector<Fiber> fibers;
static thread_local size_t current;
static thread_local void (*body)();

static void barrier() {
  const Dim mine = threadIdx;
  swapcontext(&fibers[current].context, &scheduler);
  threadIdx = mine;
}

static void run_fiber() {
  body();
  fibers[current].done = true;
}

static void run_block() {
  const size_t threads = blockDim.x;
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  for (size_t t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_fiber, 0);
  }
  uint32_t dice = blockIdx.x + 1;
  for (size_t alive = threads; alive > 0;) {
    dice = dice * 1664525u + 1013904223u;
    const size_t first = (dice >> 8) % threads;
    const bool backwards = dice >> 31;
    const size_t before = alive;
    size_t stopped = 0;
    for (size_t i = 0; i < threads; ++i) {
      current = (first + (backwards ? threads - i : i)) % threads;
      if (fibers[current].done) continue;
      threadIdx.x = static_cast<unsigned>(current);
      swapcontext(&scheduler, &fibers[current].context);
      if (fibers[current].done) {
        --alive;
      } else {
        ++stopped;
      }
    }
    if (stopped && stopped != before) std::abort();  // some threads left while others wait for them
  }
}

// What is left of the last block must not look like an initial value.
static void poison(char* memory, size_t size) { std::memset(memory, 0xa5, size); }

template <typename Arguments>
static void launch(void (*kernel)(Arguments), unsigned grid_x, unsigned grid_y, unsigned threads, size_t shared_bytes,
                   const void* arguments) {
  static thread_local void (*called)(Arguments);
  static thread_local Arguments given;
  called = kernel;
  std::memcpy(&given, arguments, sizeof given);
  body = [] { called(given); };
  std::unique_ptr<char, decltype(&std::free)> shared(static_cast<char*>(std::aligned_alloc(64, shared_bytes + 64)),
                                                     &std::free);
  dynamic_shared = shared.get();
  gridDim = {grid_x, grid_y};
  blockDim = {threads, 1};
  for (unsigned y = 0; y < grid_y; ++y) {
    for (unsigned x = 0; x < grid_x; ++x) {
      blockIdx = {x, y};
      poison(dynamic_shared, shared_bytes);
      run_block();
    }
  }
}

}  // namespace emulated
