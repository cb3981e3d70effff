// The instruction sets that a build may hold; which of them a machine can run is for kernels.cpp to find.
#pragma once

#include "kernels.h"

namespace recjpq {

extern const Kernels kPortableKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

}  // namespace recjpq
