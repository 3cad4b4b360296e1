// The arithmetic of similarity_layer.cpp, compiled once for each instruction
// set, as in gmf_kernels.cpp.
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_SSE4  // every 64-bit processor since 2010
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "similarity_kernels.cpp"
#include "hwy/foreach_target.h"  // must come first
#include "hwy/highway.h"

#include <algorithm>

#include "chunks-inl.hpp"
#include "hwy/aligned_allocator.h"
#include "hwy/contrib/math/math-inl.h"
#include "neighbourhood.hpp"
#include "similarity_kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace similarity {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using caffe::HWY_NAMESPACE::ForEachChunk;
using caffe::HWY_NAMESPACE::kParallelPixels;

/// The lanes x..x+lanes-1 whose neighbour at x + dx is inside the image too.
template <class D>
HWY_INLINE hn::Mask<D> InsideMask(D d, int x, int dx, int width) {
  const int begin = std::max(0, -dx), stop = std::min(width, width - dx);
  return hn::AndNot(hn::FirstN(d, std::max(0, begin - x)),
      hn::FirstN(d, std::max(0, stop - x)));
}

/// Stores the columns x.. of a row that are inside the image.
template <class D, typename T>
HWY_INLINE void StoreInside(D d, hn::Vec<D> values, int x, int width, T* row) {
  if (x + static_cast<int>(hn::Lanes(d)) <= width) {
    hn::StoreU(values, d, row + x);
  } else {
    HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(T)];
    hn::Store(values, d, buffer);
    std::copy(buffer, buffer + width - x, row + x);
  }
}

template <typename T>
void ForwardRows(
    const Sizes& sizes, const T* features, T* padded, T* similarities) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const int height = sizes.height, width = sizes.width;
  const int across = 2 * sizes.offsets, reach = across - 1;
  const int padded_row = sizes.channels * sizes.stride;
#pragma omp parallel if (sizes.num * height * width >= kParallelPixels)
  {
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      const int n = row / height, y = row % height;
      for (int m = 0; m < sizes.channels; ++m) {
        const T* const in =
            features + ((n * sizes.channels + m) * height + y) * width;
        T* const out = padded + row * padded_row + m * sizes.stride;
        std::fill(out, out + sizes.margin, T(0));
        std::copy(in, in + width, out + sizes.margin);
        std::fill(out + sizes.margin + width, out + sizes.stride, T(0));
      }
    }
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      const int n = row / height, y = row % height;
      for (int i = 0; i < sizes.offsets; ++i) {
        const int dy = 2 * i + 1;
        T* const out = similarities +
                       ((n * sizes.offsets + i) * across * height + y) * width;
        if (y + dy >= height) {
          for (int j = 0; j < across; ++j) {
            std::fill(out + j * height * width,
                out + j * height * width + width, T(0));
          }
          continue;
        }
        const T* const upper = padded + row * padded_row + sizes.margin;
        const T* const lower = upper + dy * padded_row;
        ForEachChunk(across, [&](auto size, int first) HWY_ATTR {
          constexpr int kOffsets = decltype(size)::value;
          for (int x = 0; x < width; x += lanes) {
            hn::Vec<decltype(d)> distances[kOffsets];
            for (int j = 0; j < kOffsets; ++j) { distances[j] = hn::Zero(d); }
            for (int m = 0; m < sizes.channels; ++m) {
              const auto p = hn::LoadU(d, upper + m * sizes.stride + x);
              const T* const neighbours =
                  lower + m * sizes.stride + x + 2 * first - reach;
#pragma GCC unroll 16
              for (int j = 0; j < kOffsets; ++j) {
                const auto difference =
                    hn::Sub(p, hn::LoadU(d, neighbours + 2 * j));
                distances[j] = hn::MulAdd(difference, difference, distances[j]);
              }
            }
            for (int j = 0; j < kOffsets; ++j) {  // Eq. (4)
              const int dx = 2 * (first + j) - reach;
              const auto s = hn::IfThenElseZero(InsideMask(d, x, dx, width),
                  hn::Exp(d, hn::Neg(distances[j])));
              StoreInside(d, s, x, width, out + (first + j) * height * width);
            }
          }
        });
      }
    }
  }
}

/**
 * g s of the pairs that row y's pixels are an end of: (2n rows dy) x (2n
 * columns dx) x padded; 0 where there is no neighbour. Rows of neighbours
 * outside the image are left as they are.
 */
template <class D, typename T>
HWY_INLINE void GatherWeights(D d, const Sizes& sizes, const T* similarities,
    const T* similarities_diff, int y, T* weights) {
  const int lanes = hn::Lanes(d);
  const int height = sizes.height, width = sizes.width;
  const int across = 2 * sizes.offsets, reach = across - 1;
  const int count = across * sizes.offsets * height * width;
  for (int i = 0; i < across; ++i) {
    const int dy = 2 * i - reach;
    if (y + dy < 0 || y + dy >= height) { continue; }
    for (int j = 0; j < across; ++j) {
      const int dx = 2 * j - reach;
      // The pair is stored at its upper end: this pixel or the neighbour.
      const int pair =
          dy > 0 ? dy / 2 * across + j : -dy / 2 * across + (across - 1 - j);
      const int start =
          (pair * height + std::min(y, y + dy)) * width + (dy > 0 ? 0 : dx);
      T* const out = weights + (i * across + j) * sizes.padded;
      for (int x = 0; x < sizes.padded; x += lanes) {
        const int index = start + x;
        if (index >= 0 && index + lanes <= count) {
          hn::Store(hn::IfThenElseZero(InsideMask(d, x, dx, width),
                        hn::Mul(hn::LoadU(d, similarities + index),
                            hn::LoadU(d, similarities_diff + index))),
              d, out + x);
        } else {  // at either end of the array
          for (int lane = 0; lane < lanes; ++lane) {
            const bool inside =
                x + lane < width && x + lane + dx >= 0 && x + lane + dx < width;
            out[x + lane] = inside ? similarities[index + lane] *
                                         similarities_diff[index + lane]
                                   : T(0);
          }
        }
      }
    }
  }
}

template <typename T>
void BackwardRows(const Sizes& sizes, const T* padded, const T* similarities,
    const T* similarities_diff, T* features_diff) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const int height = sizes.height, width = sizes.width;
  const int across = 2 * sizes.offsets, reach = across - 1;
  const int padded_row = sizes.channels * sizes.stride;
#pragma omp parallel if (sizes.num * height * width >= kParallelPixels)
  {
    const auto weights =
        hwy::AllocateAligned<T>(across * across * sizes.padded);
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      const int n = row / height, y = row % height;
      const int image = n * across * sizes.offsets * height * width;
      GatherWeights(d, sizes, similarities + image, similarities_diff + image,
          y, weights.get());
      ForEachChunk(sizes.channels, [&](auto size, int first) HWY_ATTR {
        constexpr int kChannels = decltype(size)::value;
        const T* const own =
            padded + row * padded_row + first * sizes.stride + sizes.margin;
        for (int x = 0; x < width; x += lanes) {
          hn::Vec<decltype(d)> p[kChannels], sums[kChannels];
          for (int m = 0; m < kChannels; ++m) {
            p[m] = hn::LoadU(d, own + m * sizes.stride + x);
            sums[m] = hn::Zero(d);
          }
          for (int i = 0; i < across; ++i) {
            const int dy = 2 * i - reach;
            if (y + dy < 0 || y + dy >= height) { continue; }
            for (int j = 0; j < across; ++j) {
              const auto weight = hn::Load(
                  d, weights.get() + (i * across + j) * sizes.padded + x);
              const T* const neighbours =
                  own + dy * padded_row + x + 2 * j - reach;
#pragma GCC unroll 16
              for (int m = 0; m < kChannels; ++m) {
                const auto difference =
                    hn::Sub(p[m], hn::LoadU(d, neighbours + m * sizes.stride));
                sums[m] = hn::MulAdd(weight, difference, sums[m]);
              }
            }
          }
          for (int m = 0; m < kChannels; ++m) {  // Eq. (5a)
            StoreInside(d, hn::Mul(hn::Set(d, T(-2)), sums[m]), x, width,
                features_diff +
                    ((n * sizes.channels + first + m) * height + y) * width);
          }
        }
      });
    }
  }
}

#define SIMILARITY_KERNELS(Suffix, T)                                        \
  void Forward##Suffix(                                                      \
      const Sizes& sizes, const T* features, T* padded, T* similarities) {   \
    ForwardRows(sizes, features, padded, similarities);                      \
  }                                                                          \
  void Backward##Suffix(const Sizes& sizes, const T* padded,                 \
      const T* similarities, const T* similarities_diff, T* features_diff) { \
    BackwardRows(                                                            \
        sizes, padded, similarities, similarities_diff, features_diff);      \
  }
SIMILARITY_KERNELS(Float, float)
SIMILARITY_KERNELS(Double, double)
#undef SIMILARITY_KERNELS

}  // namespace HWY_NAMESPACE
}  // namespace similarity
}  // namespace caffe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace caffe {
namespace similarity {

Sizes::Sizes(int num, int channels, int height, int width, int window)
    : num(num),
      channels(channels),
      height(height),
      width(width),
      offsets(OddOffsets(window)),
      padded(WholeVectors(width)),
      margin(WholeVectors(2 * offsets - 1)),
      stride(padded + 2 * margin) {}

HWY_EXPORT(ForwardFloat);
HWY_EXPORT(ForwardDouble);
HWY_EXPORT(BackwardFloat);
HWY_EXPORT(BackwardDouble);

#define SIMILARITY_DISPATCH(Suffix, T)                                      \
  template <>                                                               \
  void Forward(                                                             \
      const Sizes& sizes, const T* features, T* padded, T* similarities) {  \
    HWY_DYNAMIC_DISPATCH(Forward##Suffix)                                   \
    (sizes, features, padded, similarities);                                \
  }                                                                         \
  template <>                                                               \
  void Backward(const Sizes& sizes, const T* padded, const T* similarities, \
      const T* similarities_diff, T* features_diff) {                       \
    HWY_DYNAMIC_DISPATCH(Backward##Suffix)                                  \
    (sizes, padded, similarities, similarities_diff, features_diff);        \
  }
SIMILARITY_DISPATCH(Float, float)
SIMILARITY_DISPATCH(Double, double)
#undef SIMILARITY_DISPATCH

}  // namespace similarity
}  // namespace caffe
#endif  // HWY_ONCE
