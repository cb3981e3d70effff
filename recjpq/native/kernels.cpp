#include "kernels.h"

#include "kernels_sets.h"

namespace recjpq {
namespace {

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2")) {
    found.push_back(&kAvx512Kernels);
  }
  if (__builtin_cpu_supports("avx2")) found.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
  found.push_back(&kNeonKernels);  // part of every 64-bit ARM
#endif
  found.push_back(&kPortableKernels);
  return found;
}

}  // namespace

const std::vector<const Kernels*>& supported_kernels() {
  static const std::vector<const Kernels*> sets = detect();
  return sets;
}

const Kernels* find_kernels(std::string_view name) {
  for (const Kernels* kernels : supported_kernels()) {
    if (name.empty() || kernels->name == name) return kernels;
  }
  return nullptr;
}

}  // namespace recjpq
