// CUDA on the CPU: as much of CUDA's interface as Caffe and the layers' kernels
// use, so that the same .cu files run, and can be tested, on any machine.
//
// rewrite.py turns launches into Launch() and pointers in device code into
// DevicePointers. The emulated device is stricter than a real one:
//   - every access is checked against the bounds of its allocation;
//   - blocks, and between barriers the threads of a block, run one after
//   another
//     in random order, so that a missing barrier or a race changes results;
//   - memory starts as NaN, shared memory for each block.
// A fault stops the program with the kernel, the block and the thread.
#ifndef CUDA_ON_CPU_HPP_
#define CUDA_ON_CPU_HPP_

#include <math.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

// ---- What device code sees

#define __global__
#define __device__
#define __host__

struct dim3 {
  dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1)  // NOLINT
      : x(x), y(y), z(z) {}
  unsigned int x, y, z;
};

extern dim3 gridDim, blockDim, blockIdx, threadIdx;

using std::max;
using std::min;

void __syncthreads();
bool __syncthreads_or(bool predicate);
inline void __threadfence_system() {}

namespace cuda_on_cpu {

/// Stops, naming the kernel, the block and the thread that run.
[[noreturn]] void Fault(const std::string& what);

/// The memory, of the device or page-locked, that an address lies in.
struct Allocation {
  char *begin, *end;
};

/// The allocation that holds the address, or one without size.
Allocation FindAllocation(const void* address);

/// A pointer of device code, which knows the bounds of its allocation.
template <typename T>
class DevicePointer {
 public:
  DevicePointer(T* pointer) : pointer_(pointer) {  // NOLINT(runtime/explicit)
    const Allocation bounds = FindAllocation(pointer);
    begin_ = reinterpret_cast<T*>(bounds.begin);
    end_ = reinterpret_cast<T*>(bounds.end);
    if (begin_ == end_ && pointer) {  // a local variable
      begin_ = pointer;
      end_ = pointer + 1;
    }
  }
  operator DevicePointer<const T>() const {
    return DevicePointer<const T>(pointer_, begin_, end_);
  }
  DevicePointer(T* pointer, T* begin, T* end)
      : pointer_(pointer), begin_(begin), end_(end) {}

  explicit operator bool() const { return pointer_ != nullptr; }
  T& operator[](ptrdiff_t i) const {
    const ptrdiff_t at = pointer_ - begin_ + i;
    if (at < 0 || at >= end_ - begin_) {
      Fault("element " + std::to_string(at) + " of an array of " +
            std::to_string(end_ - begin_));
    }
    return begin_[at];
  }
  T& operator*() const { return (*this)[0]; }
  T* operator->() const { return &(*this)[0]; }
  DevicePointer operator+(ptrdiff_t n) const {
    return DevicePointer(pointer_ + n, begin_, end_);
  }

 private:
  T *pointer_, *begin_, *end_;
};

/// Shared memory of one block: NaN, or -1, at its start.
class SharedMemory {
 public:
  SharedMemory(void* begin, size_t size);
};

template <typename T, int kSize>
class SharedArray : private SharedMemory {
 public:
  SharedArray() : SharedMemory(values_, sizeof(values_)) {}
  T& operator[](int i) {
    if (i < 0 || i >= kSize) {
      Fault("element " + std::to_string(i) + " of a shared array of " +
            std::to_string(kSize));
    }
    return values_[i];
  }

 private:
  T values_[kSize];
};

// ---- Launches

struct LaunchShape {
  const char* kernel;
  dim3 grid, block;
  bool has_barriers;  // then each thread needs a stack of its own
};

void RunGrid(const LaunchShape& shape, const std::function<void()>& thread);

/// Stops unless the device can reach what a kernel is given a pointer to.
template <typename T>
const T& CheckArgument(const T& value) {
  if constexpr (std::is_pointer_v<T>) {
    const Allocation bounds = FindAllocation(value);
    if (value && bounds.begin == bounds.end) {
      Fault("an argument points to memory of the host");
    }
  }
  return value;
}

void SetRunningKernel(const char* kernel);

template <typename... Parameters, typename... Arguments>
void Launch(const LaunchShape& shape, void (*kernel)(Parameters...),
    Arguments&&... arguments) {
  SetRunningKernel(shape.kernel);
  const std::tuple<Parameters...> values(
      static_cast<Parameters>(CheckArgument(arguments))...);
  RunGrid(shape, [&] { std::apply(kernel, values); });
}

/// The order of blocks and threads; the same seed gives the same order.
void SetSeed(unsigned int seed);

/// Whether memory that Caffe allocates and clears starts as NaN all the same,
/// as no kernel should count on zeros that it has not written. Off at first.
void SetPoison(bool on);

}  // namespace cuda_on_cpu

// ---- The runtime, cuBLAS and cuRAND, as far as Caffe calls them

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDefault };
typedef void *cudaStream_t, *cudaEvent_t;
struct cudaDeviceProp {
  char name[256];
  int major, minor, warpSize, maxThreadsPerBlock, maxThreadsDim[3],
      maxGridSize[3], clockRate, deviceOverlap, asyncEngineCount,
      multiProcessorCount, kernelExecTimeoutEnabled, regsPerBlock;
  size_t totalGlobalMem, sharedMemPerBlock, memPitch, totalConstMem,
      textureAlignment;
};
#define CUDART_VERSION 13000

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaMalloc(void** address, size_t size);
cudaError_t cudaMallocHost(void** address, size_t size);
cudaError_t cudaFree(void* address);
cudaError_t cudaFreeHost(void* address);
cudaError_t cudaMemcpy(
    void* to, const void* from, size_t size, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size,
    cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset(void* address, int value, size_t size);

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS,
  CUBLAS_STATUS_NOT_INITIALIZED,
  CUBLAS_STATUS_ALLOC_FAILED,
  CUBLAS_STATUS_INVALID_VALUE,
  CUBLAS_STATUS_ARCH_MISMATCH,
  CUBLAS_STATUS_MAPPING_ERROR,
  CUBLAS_STATUS_EXECUTION_FAILED,
  CUBLAS_STATUS_INTERNAL_ERROR,
  CUBLAS_STATUS_NOT_SUPPORTED,
  CUBLAS_STATUS_LICENSE_ERROR
};
#define CUDA_VERSION 13000
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
typedef void* cublasHandle_t;
cublasStatus_t cublasCreate(cublasHandle_t* handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
#define CUDA_ON_CPU_BLAS(T, P)                                                 \
  cublasStatus_t cublas##P##gemm(cublasHandle_t handle,                        \
      cublasOperation_t a_op, cublasOperation_t b_op, int m, int n, int k,     \
      const T* alpha, const T* a, int lda, const T* b, int ldb, const T* beta, \
      T* c, int ldc);                                                          \
  cublasStatus_t cublas##P##gemv(cublasHandle_t handle, cublasOperation_t op,  \
      int m, int n, const T* alpha, const T* a, int lda, const T* x, int incx, \
      const T* beta, T* y, int incy);                                          \
  cublasStatus_t cublas##P##axpy(cublasHandle_t handle, int n, const T* alpha, \
      const T* x, int incx, T* y, int incy);                                   \
  cublasStatus_t cublas##P##scal(                                              \
      cublasHandle_t handle, int n, const T* alpha, T* x, int incx);           \
  cublasStatus_t cublas##P##copy(                                              \
      cublasHandle_t handle, int n, const T* x, int incx, T* y, int incy);     \
  cublasStatus_t cublas##P##dot(cublasHandle_t handle, int n, const T* x,      \
      int incx, const T* y, int incy, T* result);                              \
  cublasStatus_t cublas##P##asum(                                              \
      cublasHandle_t handle, int n, const T* x, int incx, T* result);
CUDA_ON_CPU_BLAS(float, S)
CUDA_ON_CPU_BLAS(double, D)
#undef CUDA_ON_CPU_BLAS

enum curandStatus_t {
  CURAND_STATUS_SUCCESS,
  CURAND_STATUS_VERSION_MISMATCH,
  CURAND_STATUS_NOT_INITIALIZED,
  CURAND_STATUS_ALLOCATION_FAILED,
  CURAND_STATUS_TYPE_ERROR,
  CURAND_STATUS_OUT_OF_RANGE,
  CURAND_STATUS_LENGTH_NOT_MULTIPLE,
  CURAND_STATUS_LAUNCH_FAILURE,
  CURAND_STATUS_PREEXISTING_FAILURE,
  CURAND_STATUS_INITIALIZATION_FAILED,
  CURAND_STATUS_ARCH_MISMATCH,
  CURAND_STATUS_INTERNAL_ERROR,
  CURAND_STATUS_DOUBLE_PRECISION_REQUIRED
};
enum curandRngType_t { CURAND_RNG_PSEUDO_DEFAULT };
typedef void* curandGenerator_t;
// No layer here draws numbers on the device: these find nothing to do.
curandStatus_t curandCreateGenerator(
    curandGenerator_t* generator, curandRngType_t type);
curandStatus_t curandDestroyGenerator(curandGenerator_t generator);
curandStatus_t curandSetPseudoRandomGeneratorSeed(
    curandGenerator_t generator, unsigned long long seed);  // NOLINT
curandStatus_t curandSetGeneratorOffset(
    curandGenerator_t generator, unsigned long long offset);  // NOLINT
curandStatus_t curandGenerate(
    curandGenerator_t generator, unsigned int* values, size_t count);
curandStatus_t curandGenerateUniform(
    curandGenerator_t generator, float* values, size_t count);
curandStatus_t curandGenerateUniformDouble(
    curandGenerator_t generator, double* values, size_t count);
curandStatus_t curandGenerateNormal(curandGenerator_t generator, float* values,
    size_t count, float mean, float deviation);
curandStatus_t curandGenerateNormalDouble(curandGenerator_t generator,
    double* values, size_t count, double mean, double deviation);

#endif  // CUDA_ON_CPU_HPP_
