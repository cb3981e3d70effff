// The kernels as functions of a shared library: the entry points that emulated_cuda.py calls.
#include "kernels.cu"

#define RECJPQ_ENTRY(kernel)                                                                                  \
  extern "C" void launch_##kernel(unsigned grid_x, unsigned grid_y, unsigned threads, uint64_t shared_bytes,   \
                                  const void* arguments) {                                                     \
    emulated::launch(kernel, grid_x, grid_y, threads, shared_bytes, arguments);                                \
  }

extern "C" uint64_t size_of_search() { return sizeof(Search); }

RECJPQ_ENTRY(collect)
RECJPQ_ENTRY(prepare_narrow)
RECJPQ_ENTRY(prepare_wide)
RECJPQ_ENTRY(scan_narrow)
RECJPQ_ENTRY(scan_wide)
RECJPQ_ENTRY(finish)
