// Shared by the kernels; included once for each instruction set, so the guard
// is Highway's toggle. What it defines belongs to that instruction set.
#if defined(KERNELS_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef KERNELS_INL_HPP_
#undef KERNELS_INL_HPP_
#else
#define KERNELS_INL_HPP_
#endif

#include <type_traits>

#include "hwy/highway.h"
#include "neighbourhood.hpp"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace HWY_NAMESPACE {

/// A row of each channel of an array.
template <typename T>
struct Rows {
  T* first;
  int stride;  // from a channel to the next

  T* operator[](int channel) const { return first + channel * stride; }
  Rows From(int channel) const { return {(*this)[channel], stride}; }
  operator Rows<const T>() const { return {first, stride}; }
};

/// Rows that a function with vectors D reads, or writes.
template <class D>
using In = Rows<const hwy::HWY_NAMESPACE::TFromD<D>>;
template <class D>
using Out = Rows<hwy::HWY_NAMESPACE::TFromD<D>>;

/// Row y of image n in a map N x channels x H x W.
template <typename T>
HWY_INLINE Rows<T> MapRow(
    const PairGrid& grid, int channels, T* map, int n, int y) {
  return {map + (n * channels * grid.height + y) * grid.width,
      grid.height * grid.width};
}

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

// A kernel is a struct of its arguments with a function Run(). It is written as
// `template <typename T> void Run(const Kernel<T>&)` in the namespace of each
// instruction set, which COMPILE_KERNEL closes, and DISPATCH_KERNEL, once, lets
// Kernel<T>::Run() call the one for the processor that it runs on.
#ifndef COMPILE_KERNEL
#define COMPILE_KERNEL(Kernel)                                     \
  void Kernel##Float(const Kernel<float>& kernel) { Run(kernel); } \
  void Kernel##Double(const Kernel<double>& kernel) { Run(kernel); }
#define DISPATCH_KERNEL(Kernel)                  \
  HWY_EXPORT(Kernel##Float);                     \
  HWY_EXPORT(Kernel##Double);                    \
  template <>                                    \
  void Kernel<float>::Run() const {              \
    HWY_DYNAMIC_DISPATCH(Kernel##Float)(*this);  \
  }                                              \
  template <>                                    \
  void Kernel<double>::Run() const {             \
    HWY_DYNAMIC_DISPATCH(Kernel##Double)(*this); \
  }
#endif

#endif  // KERNELS_INL_HPP_
