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

#include "hwy/aligned_allocator.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels-inl.hpp"
#include "neighbourhood.hpp"
#include "parallel.hpp"
#include "similarity_kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace similarity {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using caffe::HWY_NAMESPACE::ForEachChunk;
using caffe::HWY_NAMESPACE::In;
using caffe::HWY_NAMESPACE::MapRow;
using caffe::HWY_NAMESPACE::Out;
using caffe::HWY_NAMESPACE::Rows;

inline bool IsParallel(const Sizes& sizes) {
  return sizes.num * sizes.height * sizes.width >= kMinParallelPixels;
}

/// Row y of image n in the padded copy, where row is n H + y.
template <typename T>
HWY_INLINE Rows<T> PaddedRow(const Sizes& sizes, T* padded, int row) {
  return {padded + row * sizes.channels * sizes.stride + sizes.margin,
      sizes.stride};
}

template <typename T>
HWY_INLINE void Pad(const Sizes& sizes, Rows<const T> row, Rows<T> padded) {
  for (int m = 0; m < sizes.channels; ++m) {
    T* const out = padded[m];
    std::fill(out - sizes.margin, out, T(0));
    std::copy(row[m], row[m] + sizes.width, out);
    std::fill(out + sizes.width, out + sizes.padded + sizes.margin, T(0));
  }
}

/// The lanes of x..x+lanes-1 that are in begin..end-1.
template <class D>
HWY_INLINE hn::Mask<D> InsideMask(D d, int x, int begin, int end) {
  return hn::AndNot(hn::FirstN(d, std::max(0, begin - x)),
      hn::FirstN(d, std::max(0, end - x)));
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

/// The similarities of the pairs of one dy, in order of dx, from the features
/// of their upper and their lower ends.
template <class D>
HWY_INLINE void Similarities(
    D d, const Sizes& sizes, In<D> upper, In<D> lower, Out<D> similarities) {
  const int lanes = hn::Lanes(d);
  ForEachChunk(sizes.across(), [&](auto size, int first) HWY_ATTR {
    constexpr int kOffsets = decltype(size)::value;
    for (int x = 0; x < sizes.width; x += lanes) {
      hn::Vec<D> distances[kOffsets];
      for (int j = 0; j < kOffsets; ++j) { distances[j] = hn::Zero(d); }
      for (int m = 0; m < sizes.channels; ++m) {
        const auto p = hn::LoadU(d, upper[m] + x);
        const auto* const neighbours = lower[m] + x + sizes.OffsetAlong(first);
#pragma GCC unroll 16
        for (int j = 0; j < kOffsets; ++j) {
          const auto difference = hn::Sub(p, hn::LoadU(d, neighbours + 2 * j));
          distances[j] = hn::MulAdd(difference, difference, distances[j]);
        }
      }
      for (int j = 0; j < kOffsets; ++j) {  // Eq. (4)
        const int dx = sizes.OffsetAlong(first + j);
        const auto inside =
            InsideMask(d, x, sizes.BeginColumn(dx), sizes.EndColumn(dx));
        const auto s =
            hn::IfThenElseZero(inside, hn::Exp(d, hn::Neg(distances[j])));
        StoreInside(d, s, x, sizes.width, similarities[first + j]);
      }
    }
  });
}

template <typename T>
void Run(const Forward<T>& in) {
  const hn::ScalableTag<T> d;
  const Sizes& sizes = in.sizes;
  const int height = sizes.height, across = sizes.across();
#pragma omp parallel if (IsParallel(sizes))
  {
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      Pad<T>(sizes,
          MapRow(
              sizes, sizes.channels, in.features, row / height, row % height),
          PaddedRow(sizes, in.padded, row));
    }
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      const int n = row / height, y = row % height;
      const Rows<T> similarities =
          MapRow(sizes, sizes.pairs(), in.similarities, n, y);
      for (int p = 0; p < sizes.pairs(); p += across) {
        const int dy = sizes.OffsetOf(p).dy;
        const Rows<T> out = similarities.From(p);
        if (y + dy < height) {
          Similarities(d, sizes, PaddedRow(sizes, in.padded, row),
              PaddedRow(sizes, in.padded, row + dy), out);
        } else {
          for (int j = 0; j < across; ++j) {
            std::fill(out[j], out[j] + sizes.width, T(0));
          }
        }
      }
    }
  }
}

/**
 * g s of the pairs that row y's pixels are an end of: (2n rows dy) x (2n
 * columns dx) padded rows; 0 where there is no neighbour. Rows of neighbours
 * outside the image are left as they are.
 */
template <class D, typename T>
HWY_INLINE void GatherWeights(D d, const Sizes& sizes, const T* similarities,
    const T* similarities_diff, int y, Out<D> weights) {
  const int lanes = hn::Lanes(d), across = sizes.across();
  const int count = sizes.pairs() * sizes.height * sizes.width;
  for (int i = 0; i < across; ++i) {
    const int dy = sizes.OffsetAlong(i);
    if (y + dy < 0 || y + dy >= sizes.height) { continue; }
    for (int j = 0; j < across; ++j) {
      const int dx = sizes.OffsetAlong(j);
      const int begin = sizes.BeginColumn(dx), end = sizes.EndColumn(dx);
      const int first = sizes.EntryOf(y, 0, dy, dx);
      T* const out = weights[i * across + j];
      for (int x = 0; x < sizes.padded; x += lanes) {
        const int entry = first + x;
        if (entry >= 0 && entry + lanes <= count) {
          hn::Store(hn::IfThenElseZero(InsideMask(d, x, begin, end),
                        hn::Mul(hn::LoadU(d, similarities + entry),
                            hn::LoadU(d, similarities_diff + entry))),
              d, out + x);
        } else {  // at either end of the array
          for (int lane = 0; lane < lanes; ++lane) {
            const int own = x + lane;
            out[own] =
                begin <= own && own < end
                    ? similarities[first + own] * similarities_diff[first + own]
                    : T(0);
          }
        }
      }
    }
  }
}

/// Eq. (5a) for row y of an image. row: where it lies in the padded copy.
template <class D, typename T>
HWY_INLINE void FeaturesDiff(D d, const Sizes& sizes, const T* padded, int y,
    int row, In<D> weights, Out<D> features_diff) {
  const int lanes = hn::Lanes(d), across = sizes.across();
  ForEachChunk(sizes.channels, [&](auto size, int first) HWY_ATTR {
    constexpr int kChannels = decltype(size)::value;
    const Rows<const T> own = PaddedRow(sizes, padded, row).From(first);
    for (int x = 0; x < sizes.width; x += lanes) {
      hn::Vec<D> p[kChannels], sums[kChannels];
      for (int m = 0; m < kChannels; ++m) {
        p[m] = hn::LoadU(d, own[m] + x);
        sums[m] = hn::Zero(d);
      }
      for (int i = 0; i < across; ++i) {
        const int dy = sizes.OffsetAlong(i);
        if (y + dy < 0 || y + dy >= sizes.height) { continue; }
        const Rows<const T> other =
            PaddedRow(sizes, padded, row + dy).From(first);
        for (int j = 0; j < across; ++j) {
          const auto weight = hn::Load(d, weights[i * across + j] + x);
          const T* const neighbours = other.first + x + sizes.OffsetAlong(j);
#pragma GCC unroll 16
          for (int m = 0; m < kChannels; ++m) {
            const auto difference =
                hn::Sub(p[m], hn::LoadU(d, neighbours + m * sizes.stride));
            sums[m] = hn::MulAdd(weight, difference, sums[m]);
          }
        }
      }
      for (int m = 0; m < kChannels; ++m) {
        StoreInside(d, hn::Mul(hn::Set(d, T(-2)), sums[m]), x, sizes.width,
            features_diff[first + m]);
      }
    }
  });
}

template <typename T>
void Run(const Backward<T>& in) {
  const hn::ScalableTag<T> d;
  const Sizes& sizes = in.sizes;
  const int height = sizes.height;
#pragma omp parallel if (IsParallel(sizes))
  {
    const auto scratch =
        hwy::AllocateAligned<T>(sizes.across() * sizes.across() * sizes.padded);
    const Rows<T> weights{scratch.get(), sizes.padded};
#pragma omp for schedule(static)
    for (int row = 0; row < sizes.num * height; ++row) {
      const int n = row / height, y = row % height;
      const int image = n * sizes.pairs() * height * sizes.width;
      GatherWeights(d, sizes, in.similarities + image,
          in.similarities_diff + image, y, weights);
      FeaturesDiff(d, sizes, in.padded, y, row, weights,
          MapRow(sizes, sizes.channels, in.features_diff, n, y));
    }
  }
}

COMPILE_KERNEL(Forward)
COMPILE_KERNEL(Backward)

}  // namespace HWY_NAMESPACE
}  // namespace similarity
}  // namespace caffe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace caffe {
namespace similarity {

Sizes::Sizes(int num, int channels, int height, int width, int window)
    : PairGrid(height, width, window),
      num(num),
      channels(channels),
      padded(WholeVectors(width)),
      margin(WholeVectors(reach())),
      stride(padded + 2 * margin) {}

DISPATCH_KERNEL(Forward)
DISPATCH_KERNEL(Backward)

}  // namespace similarity
}  // namespace caffe
#endif  // HWY_ONCE
