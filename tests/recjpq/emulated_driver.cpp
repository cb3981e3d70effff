// A libcuda.so.1 whose GPU is emulated_cuda.h: the few entry points of the driver that driver.py asks for.
//
// Machine code is accepted and ignored: its kernels are those that this library was compiled with.
#include <cstdio>
#include <dlfcn.h>
#include <string>

#include "kernels.cu"

namespace {

struct Kernel {
  const char* name;
  void (*call)(Search);
};
const Kernel kKernels[] = {{"collect", collect},
                           {"prepare_narrow", prepare_narrow},
                           {"prepare_wide", prepare_wide},
                           {"scan_narrow", scan_narrow},
                           {"scan_wide", scan_wide},
                           {"finish", finish}};

constexpr int kSuccess = 0, kInvalidValue = 1, kNotFound = 500;
constexpr int kSharedBytes = 227 * 1024;
int the_context;

}  // namespace

extern "C" {

int cuInit(unsigned) { return kSuccess; }
int cuDriverGetVersion(int* version) { return *version = 13000, kSuccess; }
int cuDeviceGetCount(int* count) { return *count = 1, kSuccess; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, kSuccess; }
int cuDeviceGetName(char* name, int size, int) {
  return std::snprintf(name, static_cast<size_t>(size), "emulated"), kSuccess;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 2; return kSuccess;            // MULTIPROCESSOR_COUNT
    case 75: *value = 9; return kSuccess;            // COMPUTE_CAPABILITY_MAJOR
    case 76: *value = 0; return kSuccess;            // COMPUTE_CAPABILITY_MINOR
    case 97: *value = kSharedBytes; return kSuccess;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
    default: return kInvalidValue;
  }
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = &the_context, kSuccess; }
int cuCtxSetCurrent(void* context) { return context == &the_context ? kSuccess : kInvalidValue; }
int cuMemAlloc_v2(uint64_t* address, size_t size) {
  void* memory = std::aligned_alloc(256, (size + 255) / 256 * 256);
  std::memset(memory, 0xa5, size);
  return *address = reinterpret_cast<uint64_t>(memory), kSuccess;
}
int cuMemFree_v2(uint64_t address) { return std::free(reinterpret_cast<void*>(address)), kSuccess; }
int cuMemAllocHost_v2(void** address, size_t size) { return *address = std::malloc(size), kSuccess; }
int cuMemFreeHost(void* address) { return std::free(address), kSuccess; }
int cuStreamCreate(void** stream, unsigned flags) {
  return *stream = std::malloc(1), flags == 1 ? kSuccess : kInvalidValue;  // CU_STREAM_NON_BLOCKING
}
int cuStreamDestroy_v2(void* stream) { return std::free(stream), kSuccess; }
int cuStreamSynchronize(void* stream) { return stream ? kSuccess : kInvalidValue; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, void*) {
  return std::memcpy(reinterpret_cast<void*>(to), from, size), kSuccess;
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, void*) {
  return std::memcpy(to, reinterpret_cast<void*>(from), size), kSuccess;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void*) {
  return std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size), kSuccess;
}
int cuModuleLoadData(void** module, const void* image) {
  return *module = const_cast<void*>(image), std::memcmp(image, "\x7f" "ELF", 4) ? kInvalidValue : kSuccess;
}
int cuModuleGetFunction(void** function, void*, const char* name) {
  for (const Kernel& kernel : kKernels) {
    if (name == std::string(kernel.name)) return *function = const_cast<Kernel*>(&kernel), kSuccess;
  }
  return kNotFound;
}
int cuFuncSetAttribute(void*, int attribute, int value) {
  return attribute == 8 && value <= kSharedBytes ? kSuccess : kInvalidValue;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, size_t) { return *blocks = 2, kSuccess; }
int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned threads, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void*, void** parameters, void** extra) {
  if (grid_z != 1 || block_y != 1 || block_z != 1 || threads > 1024 || extra) return kInvalidValue;
  emulated::launch(static_cast<Kernel*>(function)->call, grid_x, grid_y, threads, shared_bytes, parameters[0]);
  return kSuccess;
}
int cuEventCreate(void** event, unsigned) { return *event = &the_context, kSuccess; }
int cuEventRecord(void*, void*) { return kSuccess; }
int cuEventSynchronize(void*) { return kSuccess; }
int cuEventElapsedTime_v2(float* milliseconds, void*, void*) { return *milliseconds = 1.0f, kSuccess; }
int cuEventDestroy_v2(void*) { return kSuccess; }
int cuGetErrorString(int, const char** text) { return *text = "emulated", kSuccess; }
int cuGetErrorName(int, const char** text) { return *text = "EMULATED", kSuccess; }

// NVRTC asks for it where there is a driver. A table begins with its size: this one has nothing.
int cuGetExportTable(const void** table, const void*) {
  static const uint64_t empty = sizeof(uint64_t);
  return *table = &empty, kSuccess;
}

int cuGetProcAddress_v2(const char* name, void** address, int, uint64_t, int* status) {
  static void* self = dlopen("libcuda.so.1", RTLD_NOW);
  *address = dlsym(self, (name + std::string("_v2")).c_str());
  if (!*address) *address = dlsym(self, name);
  if (status) *status = *address ? 0 : 1;
  return *address ? kSuccess : kNotFound;
}
int cuGetProcAddress(const char* name, void** address, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, address, version, flags, nullptr);
}
}
