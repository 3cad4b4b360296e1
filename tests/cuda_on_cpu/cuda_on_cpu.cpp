#include "cuda_on_cpu.hpp"

#include <cblas.h>
#include <glog/logging.h>
#include <ucontext.h>

#include <map>
#include <memory>
#include <numeric>
#include <random>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// A function whose frame may be left for another stack, so that
// AddressSanitizer should lay nothing around its variables.
#define SWITCHES_STACKS __attribute__((noinline, no_sanitize_address))

dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace cuda_on_cpu {
namespace {

const int kPoison = 0xff;  // NaN as a float or a double, -1 as an int

struct Memory {
  size_t size;
  bool on_device;
  bool is_fresh;  // poisoned, and nothing written since
};

// By the first address after it, so that upper_bound() finds what holds one.
std::map<char*, Memory>& Allocations() {
  static auto* const allocations = new std::map<char*, Memory>;
  return *allocations;
}

std::map<char*, Memory>::iterator Find(const void* address) {
  auto& allocations = Allocations();
  char* const at = static_cast<char*>(const_cast<void*>(address));
  const auto found = allocations.upper_bound(at);
  if (found == allocations.end() || at < found->first - found->second.size) {
    return allocations.end();
  }
  return found;
}

cudaError_t Allocate(void** address, size_t size, bool on_device) {
  // At least a byte, so that no two allocations are at one address.
  char* const begin = static_cast<char*>(malloc(std::max<size_t>(size, 1)));
  CHECK(begin) << "cannot allocate " << size << " bytes";
  memset(begin, kPoison, size);
  Allocations()[begin + std::max<size_t>(size, 1)] = {
      std::max<size_t>(size, 1), on_device, true};
  *address = begin;
  return cudaSuccess;
}

cudaError_t Free(void* address, bool on_device) {
  if (!address) { return cudaSuccess; }
  const auto found = Find(address);
  CHECK(found != Allocations().end() && found->second.on_device == on_device &&
        found->first - found->second.size == address)
      << address << " is not what "
      << (on_device ? "cudaMalloc" : "cudaMallocHost") << " returned";
  Allocations().erase(found);
  free(address);
  return cudaSuccess;
}

/// Stops if a range begins in an allocation but is not wholly inside.
void CheckRange(const void* address, size_t size, const char* user) {
  const auto found = Find(address);
  if (found == Allocations().end()) { return; }  // the host's
  CHECK_LE(static_cast<const char*>(address) + size, found->first)
      << user << " passes the end of an allocation of " << found->second.size
      << " bytes";
  found->second.is_fresh = false;
}

/// As CheckRange(), for `count` values that must lie on the device.
template <typename T>
void CheckOnDevice(const T* values, size_t count, const char* user) {
  const auto found = Find(values);
  CHECK(found != Allocations().end()) << user << " is given the host's memory";
  CheckRange(values, count * sizeof(T), user);
}

struct SharedRange {
  void* begin;
  size_t size;
};
std::vector<SharedRange>& SharedRanges() {
  static auto* const ranges = new std::vector<SharedRange>;
  return *ranges;
}

std::mt19937 random_bits(1);
bool poison_cleared_memory = false;
const char* running_kernel = nullptr;

std::vector<unsigned int> RandomOrder(unsigned int count) {
  std::vector<unsigned int> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_bits);
  return order;
}

// ---- The threads of a block that has barriers, each on a stack of its own

class Fibers {
 public:
  static Fibers& Get() {
    static auto* const fibers = new Fibers;
    return *fibers;
  }

  void RunBlock(unsigned int count, const std::function<void()>& thread) {
    thread_ = &thread;
    while (fibers_.size() < count) { fibers_.emplace_back(new Fiber); }
    for (unsigned int t = 0; t < count; ++t) {
      fibers_[t]->is_finished = false;
    }
    any_ = next_any_ = false;
    unsigned int num_finished = 0;
    while (num_finished < count) {
      for (const unsigned int t : RandomOrder(count)) {
        threadIdx.x = t;
        Resume(fibers_[t].get());
        num_finished += fibers_[t]->is_finished;
      }
      if (num_finished > 0 && num_finished < count) {
        Fault("some threads ended while others wait at a barrier");
      }
      any_ = next_any_;
      next_any_ = false;
    }
    current_ = nullptr;
  }

  bool Barrier(bool predicate) {
    if (!current_) { Fault("a barrier, which rewrite.py did not see"); }
    next_any_ = next_any_ || predicate;
    const unsigned int t = threadIdx.x;
    LeaveFiber();
    threadIdx.x = t;
    return any_;
  }

 private:
  static const size_t kStackSize = 128 << 10;
  typedef void* Jump[5];  // what __builtin_setjmp needs
  struct Fiber {
    Jump jump;
    bool is_started = false;
    std::unique_ptr<char[]> stack{new char[kStackSize]};
    void* fake_stack = nullptr;  // AddressSanitizer's
    bool is_finished;
  };

  /// Runs a thread from one block to the next: it never ends.
  SWITCHES_STACKS static void Main() {
    Fibers& all = Get();
    all.EnteredFiber();
    for (;;) {
      (*all.thread_)();
      all.current_->is_finished = true;
      all.LeaveFiber();
    }
  }

  SWITCHES_STACKS void Resume(Fiber* fiber) {
    current_ = fiber;
#ifdef __SANITIZE_ADDRESS__
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, fiber->stack.get(), kStackSize);
    EnterFiber(fiber);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
    EnterFiber(fiber);
#endif
  }

  // GCC's own setjmp and longjmp: no system call, as swapcontext has, and none
  // of the checks that keep longjmp on one stack.
  SWITCHES_STACKS void EnterFiber(Fiber* fiber) {
    if (__builtin_setjmp(main_)) { return; }
    fiber->is_started ? JumpTo(&fiber->jump) : Start(fiber);
  }

  [[noreturn]] SWITCHES_STACKS void Start(Fiber* fiber) {
    fiber->is_started = true;
    ucontext_t context;
    CHECK_EQ(0, getcontext(&context));
    context.uc_stack.ss_sp = fiber->stack.get();
    context.uc_stack.ss_size = kStackSize;
    context.uc_link = nullptr;
    makecontext(&context, &Fibers::Main, 0);
    setcontext(&context);
    throw;  // not reached
  }

  SWITCHES_STACKS void LeaveFiber() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(
        &current_->fake_stack, main_stack_, main_stack_size_);
#endif
    JumpToMain(current_);
    EnteredFiber();
  }

  SWITCHES_STACKS void JumpToMain(Fiber* fiber) {
    if (__builtin_setjmp(fiber->jump)) { return; }
    JumpTo(&main_);
  }

  // Not in the function that set the jump, or GCC mistakes the one for the
  // other.
  [[noreturn]] SWITCHES_STACKS static void JumpTo(Jump* jump) {
    __builtin_longjmp(*jump, 1);
  }

  SWITCHES_STACKS void EnteredFiber() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(
        current_->fake_stack, &main_stack_, &main_stack_size_);
#endif
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  const std::function<void()>* thread_ = nullptr;
  Fiber* current_ = nullptr;
  Jump main_;
  const void* main_stack_ = nullptr;
  size_t main_stack_size_ = 0;
  bool any_ = false, next_any_ = false;
};

}  // namespace

void Fault(const std::string& what) {
  LOG(FATAL) << "CUDA kernel " << (running_kernel ? running_kernel : "(none)")
             << ", block " << blockIdx.x << " of " << gridDim.x << ", thread "
             << threadIdx.x << " of " << blockDim.x << ": " << what;
  throw;  // not reached
}

Allocation FindAllocation(const void* address) {
  const auto found = Find(address);
  if (found == Allocations().end()) { return {nullptr, nullptr}; }
  return {found->first - found->second.size, found->first};
}

SharedMemory::SharedMemory(void* begin, size_t size) {
  memset(begin, kPoison, size);
  SharedRanges().push_back({begin, size});
}

void SetSeed(unsigned int seed) { random_bits.seed(seed); }
void SetPoison(bool on) { poison_cleared_memory = on; }
void SetRunningKernel(const char* kernel) { running_kernel = kernel; }

void RunGrid(const LaunchShape& shape, const std::function<void()>& thread) {
  gridDim = shape.grid;
  blockDim = shape.block;
  blockIdx = threadIdx = dim3(0);
  if (gridDim.x == 0 || blockDim.x == 0 || blockDim.x > 1024) {
    Fault("a grid or block that no device accepts");
  }
  if (gridDim.y * gridDim.z * blockDim.y * blockDim.z != 1) {
    Fault("a grid of more than one dimension, which is not emulated");
  }
  const std::vector<unsigned int> threads = RandomOrder(blockDim.x);
  for (const unsigned int block : RandomOrder(gridDim.x)) {
    blockIdx.x = block;
    for (const SharedRange& range : SharedRanges()) {
      memset(range.begin, kPoison, range.size);
    }
    if (shape.has_barriers) {
      Fibers::Get().RunBlock(blockDim.x, thread);
      continue;
    }
    for (const unsigned int t : threads) {
      threadIdx.x = t;
      thread();
    }
  }
}

}  // namespace cuda_on_cpu

void __syncthreads() { cuda_on_cpu::Fibers::Get().Barrier(false); }
bool __syncthreads_or(bool predicate) {
  return cuda_on_cpu::Fibers::Get().Barrier(predicate);
}

// ---- The runtime

const char* cudaGetErrorString(cudaError_t) { return "an error"; }
cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  strcpy(properties->name, "CUDA on the CPU");  // NOLINT(runtime/printf)
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** address, size_t size) {
  return cuda_on_cpu::Allocate(address, size, true);
}
cudaError_t cudaMallocHost(void** address, size_t size) {
  return cuda_on_cpu::Allocate(address, size, false);
}
cudaError_t cudaFree(void* address) { return cuda_on_cpu::Free(address, true); }
cudaError_t cudaFreeHost(void* address) {
  return cuda_on_cpu::Free(address, false);
}
cudaError_t cudaMemcpy(
    void* to, const void* from, size_t size, cudaMemcpyKind) {
  cuda_on_cpu::CheckRange(to, size, "cudaMemcpy");
  cuda_on_cpu::CheckRange(from, size, "cudaMemcpy");
  memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size,
    cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void* address, int value, size_t size) {
  const auto found = cuda_on_cpu::Find(address);
  const bool is_new = found != cuda_on_cpu::Allocations().end() &&
                      found->second.on_device && found->second.is_fresh;
  cuda_on_cpu::CheckRange(address, size, "cudaMemset");
  // What SyncedMemory does to new memory.
  if (is_new && value == 0 && cuda_on_cpu::poison_cleared_memory) {
    return cudaSuccess;
  }
  memset(address, value, size);
  return cudaSuccess;
}

// ---- cuBLAS, on the CPU's BLAS

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasGetStream(cublasHandle_t, cudaStream_t* stream) {
  *stream = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t) {
  return CUBLAS_STATUS_SUCCESS;
}

static CBLAS_TRANSPOSE Transpose(cublasOperation_t op) {
  return op == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

#define CUDA_ON_CPU_BLAS(T, P, p)                                              \
  cublasStatus_t cublas##P##gemm(cublasHandle_t, cublasOperation_t a_op,       \
      cublasOperation_t b_op, int m, int n, int k, const T* alpha, const T* a, \
      int lda, const T* b, int ldb, const T* beta, T* c, int ldc) {            \
    const bool a_n = a_op == CUBLAS_OP_N, b_n = b_op == CUBLAS_OP_N;           \
    CHECK(m > 0 && n > 0 && k > 0 && lda >= (a_n ? m : k) &&                   \
          ldb >= (b_n ? k : n) && ldc >= m)                                    \
        << "cuBLAS rejects a product of these sizes";                          \
    cuda_on_cpu::CheckOnDevice(a, lda*((a_n ? k : m) - 1) + (a_n ? m : k),     \
        "the first matrix of a product");                                      \
    cuda_on_cpu::CheckOnDevice(b, ldb*((b_n ? n : k) - 1) + (b_n ? k : n),     \
        "the second matrix of a product");                                     \
    cuda_on_cpu::CheckOnDevice(c, ldc*(n - 1) + m, "a product");               \
    cblas_##p##gemm(CblasColMajor, Transpose(a_op), Transpose(b_op), m, n, k,  \
        *alpha, a, lda, b, ldb, *beta, c, ldc);                                \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##gemv(cublasHandle_t, cublasOperation_t op, int m,  \
      int n, const T* alpha, const T* a, int lda, const T* x, int incx,        \
      const T* beta, T* y, int incy) {                                         \
    cblas_##p##gemv(CblasColMajor, Transpose(op), m, n, *alpha, a, lda, x,     \
        incx, *beta, y, incy);                                                 \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##axpy(cublasHandle_t, int n, const T* alpha,        \
      const T* x, int incx, T* y, int incy) {                                  \
    cuda_on_cpu::CheckOnDevice(x, n, "axpy");                                  \
    cuda_on_cpu::CheckOnDevice(y, n, "axpy");                                  \
    cblas_##p##axpy(n, *alpha, x, incx, y, incy);                              \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##scal(                                              \
      cublasHandle_t, int n, const T* alpha, T* x, int incx) {                 \
    cuda_on_cpu::CheckOnDevice(x, n, "scal");                                  \
    cblas_##p##scal(n, *alpha, x, incx);                                       \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##copy(                                              \
      cublasHandle_t, int n, const T* x, int incx, T* y, int incy) {           \
    cuda_on_cpu::CheckOnDevice(x, n, "copy");                                  \
    cuda_on_cpu::CheckOnDevice(y, n, "copy");                                  \
    cblas_##p##copy(n, x, incx, y, incy);                                      \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##dot(cublasHandle_t, int n, const T* x, int incx,   \
      const T* y, int incy, T* result) {                                       \
    cuda_on_cpu::CheckOnDevice(x, n, "dot");                                   \
    cuda_on_cpu::CheckOnDevice(y, n, "dot");                                   \
    *result = cblas_##p##dot(n, x, incx, y, incy);                             \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }                                                                            \
  cublasStatus_t cublas##P##asum(                                              \
      cublasHandle_t, int n, const T* x, int incx, T* result) {                \
    cuda_on_cpu::CheckOnDevice(x, n, "asum");                                  \
    *result = cblas_##p##asum(n, x, incx);                                     \
    return CUBLAS_STATUS_SUCCESS;                                              \
  }
CUDA_ON_CPU_BLAS(float, S, s)
CUDA_ON_CPU_BLAS(double, D, d)

// ---- cuRAND

curandStatus_t curandCreateGenerator(
    curandGenerator_t* generator, curandRngType_t) {
  *generator = generator;
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandDestroyGenerator(curandGenerator_t) {
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetPseudoRandomGeneratorSeed(
    curandGenerator_t, unsigned long long) {  // NOLINT
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandSetGeneratorOffset(
    curandGenerator_t, unsigned long long) {  // NOLINT
  return CURAND_STATUS_SUCCESS;
}
curandStatus_t curandGenerate(curandGenerator_t, unsigned int*, size_t) {
  return CURAND_STATUS_INTERNAL_ERROR;
}
curandStatus_t curandGenerateUniform(curandGenerator_t, float*, size_t) {
  return CURAND_STATUS_INTERNAL_ERROR;
}
curandStatus_t curandGenerateUniformDouble(curandGenerator_t, double*, size_t) {
  return CURAND_STATUS_INTERNAL_ERROR;
}
curandStatus_t curandGenerateNormal(
    curandGenerator_t, float*, size_t, float, float) {
  return CURAND_STATUS_INTERNAL_ERROR;
}
curandStatus_t curandGenerateNormalDouble(
    curandGenerator_t, double*, size_t, double, double) {
  return CURAND_STATUS_INTERNAL_ERROR;
}
