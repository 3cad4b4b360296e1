// Shared by the kernels; included once for each instruction set, so the guard
// is Highway's toggle. What it defines belongs to that instruction set.
#if defined(CHUNKS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef CHUNKS_INL_HPP_
#undef CHUNKS_INL_HPP_
#else
#define CHUNKS_INL_HPP_
#endif

#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace HWY_NAMESPACE {

// Pixels from which a second thread is worth waking.
constexpr int kParallelPixels = 256;

// Sums that a kernel keeps in registers, for two rows at once.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMaxChunk = 8;  // of 32 registers
#else
constexpr int kMaxChunk = 6;  // of 16
#endif

template <int kSize, class Body>
HWY_INLINE void CallWithSize(int size, int first, const Body& body) {
  if (size == kSize) {
    body(std::integral_constant<int, kSize>(), first);
  } else if constexpr (kSize > 1) {
    CallWithSize<kSize - 1>(size, first, body);
  }
}

/// Calls body(std::integral_constant<int, size>(), first) for runs of 1 to
/// kMaxChunk, as equal as can be, that cover 0..count-1: loops over a run
/// unroll, and its sums stay in registers.
template <class Body>
HWY_INLINE void ForEachChunk(int count, const Body& body) {
  const int chunks = (count + kMaxChunk - 1) / kMaxChunk;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int first = chunk * count / chunks;
    const int size = (chunk + 1) * count / chunks - first;
    CallWithSize<kMaxChunk>(size, first, body);
  }
}

/// Keeps a vector in its register. GCC would load it anew for each use, and an
/// unaligned load costs more than the product it feeds: 57 against 97 GFLOP/s.
template <class V>
HWY_INLINE V KeepLoaded(V vector) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC
  asm("" : "+v"(vector.raw));
#endif
  return vector;
}

}  // namespace HWY_NAMESPACE
}  // namespace caffe
HWY_AFTER_NAMESPACE();

#endif  // CHUNKS_INL_HPP_
