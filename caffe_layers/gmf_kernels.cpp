// The arithmetic of gmf_layer.cpp, compiled once for each instruction set and
// chosen when it runs (Highway's foreach_target). Each output element is
// computed by one thread in one order: results don't depend on their number.
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_SSE4  // every 64-bit processor since 2010
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gmf_kernels.cpp"
#include "hwy/foreach_target.h"  // must come first
#include "hwy/highway.h"

#include <algorithm>

#include "chunks-inl.hpp"
#include "gmf_kernels.hpp"
#include "hwy/aligned_allocator.h"
#include "neighbourhood.hpp"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace gmf {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using caffe::HWY_NAMESPACE::ForEachChunk;
using caffe::HWY_NAMESPACE::KeepLoaded;
using caffe::HWY_NAMESPACE::kParallelPixels;

/// out[c] = row[2 c + parity] for the columns there are; 0 up to half.
template <class D, typename T>
HWY_INLINE void HalfRow(
    D d, const T* row, int width, int parity, int half, T* out) {
  const int lanes = hn::Lanes(d);
  int c = 0;
  for (; 2 * (c + lanes) <= width; c += lanes) {
    const auto low = hn::LoadU(d, row + 2 * c);
    const auto high = hn::LoadU(d, row + 2 * c + lanes);
    hn::StoreU(
        parity ? hn::ConcatOdd(d, high, low) : hn::ConcatEven(d, high, low), d,
        out + c);
  }
  for (; 2 * c + parity < width; ++c) { out[c] = row[2 * c + parity]; }
  std::fill(out + c, out + half, T(0));
}

/// row[2 c + parity] = half_row[c], row[2 c + 1 - parity] = other[c].
template <class D, typename T>
HWY_INLINE void WholeRow(
    D d, const T* half_row, const T* other, int width, int parity, T* row) {
  const T* even = parity ? other : half_row;
  const T* odd = parity ? half_row : other;
  const int lanes = hn::Lanes(d);
  int c = 0;
  for (; 2 * (c + lanes) <= width; c += lanes) {
    hn::StoreInterleaved2(
        hn::LoadU(d, even + c), hn::LoadU(d, odd + c), d, row + 2 * c);
  }
  for (int x = 2 * c; x < width; ++x) { row[x] = (x % 2 ? odd : even)[x / 2]; }
}

/**
 * The similarities of row y's updated pixels to their neighbours, as weights
 * (2n rows dy) x (2n columns dx) x half; 0 where there is no neighbour. Rows of
 * neighbours outside the image are left as they are.
 */
template <class D, typename T>
HWY_INLINE void GatherWeights(
    D d, const HalfStep& step, const T* similarities, int y, T* weights) {
  const int lanes = hn::Lanes(d);
  const int height = step.height, width = step.width, half = step.half;
  const int across = 2 * step.offsets, reach = across - 1;
  const int plane = height * width, count = across * step.offsets * plane;
  for (int i = 0; i < across; ++i) {
    const int dy = 2 * i - reach;
    if (y + dy < 0 || y + dy >= height) { continue; }
    // A pair is stored at its upper end: this pixel, or the neighbour, and
    // then the order of dx is reversed.
    const bool upper = dy > 0;
    const int pair = upper ? dy / 2 * across : -dy / 2 * across + reach;
    int in = (pair * height + std::min(y, y + dy)) * width + step.parity -
             (upper ? 0 : reach);
    T* out = weights + i * across * half;
    for (int j = 0; j < across; ++j) {
      const int dx = 2 * j - reach;
      // Neighbours exist for c in [begin, stop): 0 <= 2 c + parity + dx < W.
      const int begin = std::max(0, (1 - dx - step.parity) / 2);
      const int stop =
          std::max(begin, (std::min(width, width - dx) - step.parity + 1) / 2);
      if (in >= 0 && in + 2 * half <= count) {
        for (int c = 0; c < half; c += lanes) {
          const T* const row = similarities + in + 2 * c;
          hn::Store(
              hn::ConcatEven(d, hn::LoadU(d, row + lanes), hn::LoadU(d, row)),
              d, out + c);
        }
      } else {  // at either end of the array
        for (int c = begin; c < stop; ++c) {
          out[c] = similarities[in + 2 * c];
        }
      }
      for (int c = 0; c < begin; ++c) { out[c] = 0; }
      for (int c = stop; c < half; ++c) { out[c] = 0; }
      in += upper ? plane : 2 - plane;
      out += half;
    }
  }
}

/// Adds the products of one row of neighbours to the rows kFirst..kLast-1.
template <int kFirst, int kLast, int kRows, int kChannels, class D, class V,
    typename T>
HWY_INLINE void AddTaps(D d, const T* const (&weights)[kRows], int half,
    const T* source, int stride, int taps, V (&sums)[kRows][kChannels]) {
  for (int tap = 0; tap < taps; ++tap) {
    V weight[kRows];
#pragma GCC unroll 2
    for (int row = kFirst; row < kLast; ++row) {
      weight[row] = hn::Load(d, weights[row] + tap * half);
    }
#pragma GCC unroll 16
    for (int k = 0; k < kChannels; ++k) {
      const V mean = KeepLoaded(hn::LoadU(d, source + k * stride + tap));
#pragma GCC unroll 2
      for (int row = kFirst; row < kLast; ++row) {
        sums[row][k] = hn::MulAdd(weight[row], mean, sums[row][k]);
      }
    }
  }
}

/**
 * Weighted sums over the neighbours of the updated pixels in rows y and, for
 * kRows = 2, y + 2, which share all but one of their rows of neighbours: each
 * vector loaded serves both. out: kRows rows of channels x half, two apart.
 */
template <int kRows, class D, typename T>
HWY_INLINE void SumNeighbours(D d, const HalfStep& step, const T* source,
    int channels, const T* weights, int y, T* out, int out_row) {
  const int lanes = hn::Lanes(d);
  const int across = 2 * step.offsets, reach = across - 1;
  const int source_row = (step.channels + 1) * step.stride;
  const int weights_row = across * across * step.half;
  ForEachChunk(channels, [&](auto size, int first) HWY_ATTR {
    constexpr int kChannels = decltype(size)::value;
    for (int c = 0; c < step.half; c += lanes) {
      using V = hn::Vec<D>;
      V sums[kRows][kChannels];
      for (int row = 0; row < kRows; ++row) {
        for (int k = 0; k < kChannels; ++k) { sums[row][k] = hn::Zero(d); }
      }
      // Row i of neighbours is row i of y's weights and row i - 1 of y + 2's.
      for (int i = 0; i < across + kRows - 1; ++i) {
        const int neighbour = y + 2 * i - reach;
        if (neighbour < 0 || neighbour >= step.height) { continue; }
        // dx = 2 j - reach is a shift by j - n + parity between half rows.
        const T* const in = source + neighbour * source_row +
                            first * step.stride + step.margin - step.offsets +
                            step.parity + c;
        const T* row_weights[kRows];
        for (int row = 0; row < kRows; ++row) {
          row_weights[row] =
              weights + row * weights_row + (i - row) * across * step.half + c;
        }
        if (kRows == 2 && i == 0) {
          AddTaps<0, 1>(
              d, row_weights, step.half, in, step.stride, across, sums);
        } else if (kRows == 2 && i == across) {
          AddTaps<kRows - 1, kRows>(
              d, row_weights, step.half, in, step.stride, across, sums);
        } else {
          AddTaps<0, kRows>(
              d, row_weights, step.half, in, step.stride, across, sums);
        }
      }
      for (int row = 0; row < kRows; ++row) {
        for (int k = 0; k < kChannels; ++k) {
          hn::StoreU(sums[row][k], d,
              out + 2 * row * out_row + (first + k) * step.half + c);
        }
      }
    }
  });
}

/// The rows y that SumNeighbours takes together are y and y + 2.
inline int RowGroups(int height) { return (height + 3) / 4 * 2; }
inline int FirstRow(int group) { return group / 2 * 4 + group % 2; }

/**
 * Weighted sums over the neighbours of all updated pixels of row group y, into
 * out (H x (K + 1) x half). weights: room for 2 x (2n x 2n) x half.
 */
template <class D, typename T>
HWY_INLINE void SumRowGroup(D d, const HalfStep& step, const T* source,
    int channels, const T* similarities, int y, T* weights, T* out) {
  const int out_row = (step.channels + 1) * step.half;
  const int weights_row = 4 * step.offsets * step.offsets * step.half;
  GatherWeights(d, step, similarities, y, weights);
  if (y + 2 < step.height) {
    GatherWeights(d, step, similarities, y + 2, weights + weights_row);
    SumNeighbours<2>(
        d, step, source, channels, weights, y, out + y * out_row, out_row);
  } else {
    SumNeighbours<1>(
        d, step, source, channels, weights, y, out + y * out_row, out_row);
  }
}

/// out = M' in for a K x K matrix M and K half rows; each sum is then passed
/// through finish(channel, column, sum).
template <class D, typename T, class Finish>
HWY_INLINE void Multiply(D d, const T* matrix, int channels, int half,
    const T* in, T* out, const Finish& finish) {
  const int lanes = hn::Lanes(d);
  ForEachChunk(channels, [&](auto size, int first) HWY_ATTR {
    constexpr int kChannels = decltype(size)::value;
    for (int c = 0; c < half; c += lanes) {
      hn::Vec<D> sums[kChannels];
      for (int k = 0; k < kChannels; ++k) { sums[k] = hn::Zero(d); }
      for (int l = 0; l < channels; ++l) {
        const auto x = hn::LoadU(d, in + l * half + c);
#pragma GCC unroll 16
        for (int k = 0; k < kChannels; ++k) {
          sums[k] = hn::MulAdd(
              hn::Set(d, matrix[l * channels + first + k]), x, sums[k]);
        }
      }
      for (int k = 0; k < kChannels; ++k) {
        hn::StoreU(
            finish(first + k, c, sums[k]), d, out + (first + k) * half + c);
      }
    }
  });
}

/// out = A^-1 C in = U diag(lambda / (1 + S lambda)) U' in, K half rows each.
template <class D, typename T>
HWY_INLINE void Couple(D d, const Eigenbasis<T>& compatibility, int channels,
    int half, const T* degree, const T* in, T* rotated, T* out) {
  const auto one = hn::Set(d, T(1));
  Multiply(d, compatibility.basis, channels, half, in, rotated,
      [&](int k, int c, hn::Vec<D> sum) HWY_ATTR {
        const auto lambda = hn::Set(d, compatibility.eigenvalues[k]);
        return hn::Div(hn::Mul(sum, lambda),
            hn::MulAdd(hn::LoadU(d, degree + c), lambda, one));
      });
  Multiply(d, compatibility.basis_transposed, channels, half, rotated, out,
      [](int, int, hn::Vec<D> sum) HWY_ATTR { return sum; });
}

template <typename T>
void ForwardRows(const HalfStep& step, const Eigenbasis<T>& compatibility,
    const T* means, const T* unary, const T* similarities, T* kept_means,
    T* messages, T* top) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const int height = step.height, width = step.width, half = step.half;
  const int channels = step.channels;
  const int source_row = (channels + 1) * step.stride;
  const int message_row = (channels + 1) * half;
  const int weights_count = 8 * step.offsets * step.offsets * half;
  const int pairs = 2 * step.offsets * step.offsets;
#pragma omp parallel if (step.num * height * width >= kParallelPixels)
  {
    const auto scratch =
        hwy::AllocateAligned<T>(weights_count + 3 * channels * half);
    T* const weights = scratch.get();
    T* const unary_half = weights + weights_count;
    T* const residual = unary_half + channels * half;
    T* const rotated = residual + channels * half;
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      const int n = row / height, y = row % height;
      T* const kept = kept_means + row * source_row;
      for (int k = 0; k <= channels; ++k) {
        T* const out = kept + k * step.stride;
        std::fill(out, out + step.margin, T(0));
        if (k < channels) {
          HalfRow(d, means + ((n * channels + k) * height + y) * width, width,
              1 - step.parity, half, out + step.margin);
        } else {
          const int count = (width + step.parity) / 2;
          std::fill(out + step.margin, out + step.margin + count, T(1));
          std::fill(out + step.margin + count, out + step.margin + half, T(0));
        }
        std::fill(out + step.margin + half, out + step.stride, T(0));
      }
    }
#pragma omp for schedule(static)
    for (int row_group = 0; row_group < step.num * RowGroups(height);
         ++row_group) {
      const int n = row_group / RowGroups(height);
      const int first = FirstRow(row_group % RowGroups(height));
      if (first >= height) { continue; }
      SumRowGroup(d, step, kept_means + n * height * source_row, channels + 1,
          similarities + n * pairs * height * width, first, weights,
          messages + n * height * message_row);
      for (int y = first; y < std::min(first + 3, height); y += 2) {
        const T* const message = messages + (n * height + y) * message_row;
        const T* const degree = message + channels * half;
        for (int k = 0; k < channels; ++k) {
          T* const r = unary_half + k * half;
          HalfRow(d, unary + ((n * channels + k) * height + y) * width, width,
              step.parity, half, r);
          for (int c = 0; c < half; c += lanes) {
            hn::Store(
                hn::NegMulAdd(hn::LoadU(d, degree + c), hn::Load(d, r + c),
                    hn::LoadU(d, message + k * half + c)),
                d, residual + k * half + c);
          }
        }
        Couple(d, compatibility, channels, half, degree, residual, rotated,
            residual);
        for (int k = 0; k < channels; ++k) {
          T* const r = unary_half + k * half;
          for (int c = 0; c < half; c += lanes) {  // Eq. (2a)
            hn::Store(hn::Add(hn::Load(d, r + c),
                          hn::Load(d, residual + k * half + c)),
                d, r + c);
          }
          const T* const kept = kept_means + (n * height + y) * source_row +
                                k * step.stride + step.margin;
          WholeRow(d, r, kept, width, step.parity,
              top + ((n * channels + k) * height + y) * width);
        }
      }
    }
  }
}

template <typename T>
void BackwardUpdateRows(const HalfStep& step,
    const Eigenbasis<T>& compatibility, const T* messages, const T* top,
    const T* top_diff, T* weighted, T* residuals, T* unary_diff) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const int height = step.height, width = step.width, half = step.half;
  const int channels = step.channels;
  const int source_row = (channels + 1) * step.stride;
  const int message_row = (channels + 1) * half;
  const int plane = step.num * height * half;
#pragma omp parallel if (step.num * height * width >= kParallelPixels)
  {
    const auto scratch = hwy::AllocateAligned<T>((4 * channels + 1) * half);
    T* const gradient = scratch.get();
    T* const rotated = gradient + channels * half;
    T* const coupled = rotated + channels * half;
    T* const mean = coupled + channels * half;
    T* const zeros = mean + channels * half;
    std::fill(zeros, zeros + half, T(0));
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      const int n = row / height, y = row % height;
      const T* const message = messages + row * message_row;
      const T* const degree = message + channels * half;
      for (int k = 0; k < channels; ++k) {
        const int offset = ((n * channels + k) * height + y) * width;
        HalfRow(d, top_diff + offset, width, step.parity, half,
            gradient + k * half);
        HalfRow(d, top + offset, width, step.parity, half, mean + k * half);
      }
      Couple(
          d, compatibility, channels, half, degree, gradient, rotated, coupled);
      T* const out = weighted + row * source_row;
      for (int k = 0; k <= channels; ++k) {
        T* const margins = out + k * step.stride;
        std::fill(margins, margins + step.margin, T(0));
        std::fill(margins + step.margin + half, margins + step.stride, T(0));
      }
      for (int c = 0; c < half; c += lanes) {
        const auto s = hn::LoadU(d, degree + c);
        auto dot = hn::Zero(d);  // h' mu'
        for (int k = 0; k < channels; ++k) {
          const auto h = hn::Load(d, coupled + k * half + c);
          const auto mu = hn::Load(d, mean + k * half + c);
          const auto q =  // Eq. (2b)
              hn::NegMulAdd(s, h, hn::Load(d, gradient + k * half + c));
          dot = hn::MulAdd(h, mu, dot);
          hn::StoreU(h, d, out + k * step.stride + step.margin + c);
          hn::Store(q, d, gradient + k * half + c);
          T* const residual = residuals + k * plane + row * half + c;
          hn::StoreU(q, d, residual);
          hn::StoreU(hn::NegMulAdd(s, mu, hn::LoadU(d, message + k * half + c)),
              d, residual + channels * plane);
        }
        hn::StoreU(
            hn::Neg(dot), d, out + channels * step.stride + step.margin + c);
      }
      for (int k = 0; k < channels && unary_diff; ++k) {
        WholeRow(d, gradient + k * half, zeros, width, step.parity,
            unary_diff + ((n * channels + k) * height + y) * width);
      }
    }
  }
}

template <typename T>
void BackwardMeansRows(const HalfStep& step, const T* similarities,
    const T* weighted, const T* top_diff, T* means_diff) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const HalfStep other = step.Other();  // h flows back to the kept columns
  const int height = step.height, width = step.width, half = step.half;
  const int channels = step.channels;
  const int message_row = (channels + 1) * half;
  const int weights_count = 8 * step.offsets * step.offsets * half;
  const int pairs = 2 * step.offsets * step.offsets;
#pragma omp parallel if (step.num * height * width >= kParallelPixels)
  {
    const auto scratch =
        hwy::AllocateAligned<T>(weights_count + 3 * message_row + 2 * half);
    T* const weights = scratch.get();
    T* const sums = weights + weights_count;  // rows y, unused, y + 2
    T* const gradient = sums + 3 * message_row;
    T* const zeros = gradient + half;
    std::fill(zeros, zeros + half, T(0));
#pragma omp for schedule(static)
    for (int row_group = 0; row_group < step.num * RowGroups(height);
         ++row_group) {
      const int n = row_group / RowGroups(height);
      const int first = FirstRow(row_group % RowGroups(height));
      if (first >= height) { continue; }
      SumRowGroup(d, other,
          weighted + n * height * (channels + 1) * step.stride, channels,
          similarities + n * pairs * height * width, first, weights,
          sums - first * message_row);
      for (int y = first; y < std::min(first + 3, height); y += 2) {
        for (int k = 0; k < channels; ++k) {
          const int offset = ((n * channels + k) * height + y) * width;
          T* const sum = sums + (y - first) * message_row + k * half;
          HalfRow(d, top_diff + offset, width, other.parity, half, gradient);
          for (int c = 0; c < half; c += lanes) {
            hn::Store(hn::Add(hn::Load(d, gradient + c), hn::Load(d, sum + c)),
                d, sum + c);
          }
          WholeRow(d, sum, zeros, width, other.parity, means_diff + offset);
        }
      }
    }
  }
}

/**
 * out[j][c] = sum over k <= K of upper[k][c] lower[k][c + j + shift], for the
 * half rows of the upper and the lower ends of the pairs of one dy.
 */
template <class D, typename T>
HWY_INLINE void PairProducts(D d, const HalfStep& step, const T* upper,
    const T* lower, int shift, T* out) {
  const int lanes = hn::Lanes(d);
  ForEachChunk(2 * step.offsets, [&](auto size, int first) HWY_ATTR {
    constexpr int kOffsets = decltype(size)::value;
    for (int c = 0; c < step.half; c += lanes) {
      hn::Vec<D> sums[kOffsets];
      for (int j = 0; j < kOffsets; ++j) { sums[j] = hn::Zero(d); }
      for (int k = 0; k <= step.channels; ++k) {
        const auto x = hn::LoadU(d, upper + k * step.stride + step.margin + c);
        const T* const neighbours =
            lower + k * step.stride + step.margin + c + first + shift;
#pragma GCC unroll 16
        for (int j = 0; j < kOffsets; ++j) {
          sums[j] = hn::MulAdd(x, hn::LoadU(d, neighbours + j), sums[j]);
        }
      }
      for (int j = 0; j < kOffsets; ++j) {
        hn::StoreU(sums[j], d, out + (first + j) * step.half + c);
      }
    }
  });
}

template <typename T>
void BackwardSimilaritiesRows(const HalfStep& step, const T* kept_means,
    const T* weighted, T* similarities_diff) {
  const hn::ScalableTag<T> d;
  const int height = step.height, width = step.width, half = step.half;
  const int across = 2 * step.offsets;
  const int source_row = (step.channels + 1) * step.stride;
#pragma omp parallel if (step.num * height * width >= kParallelPixels)
  {
    const auto scratch = hwy::AllocateAligned<T>(2 * across * half);
    T* const updated_upper = scratch.get();
    T* const kept_upper = updated_upper + across * half;
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      const int n = row / height, y = row % height;
      for (int i = 0; i < step.offsets; ++i) {
        const int lower = 2 * i + 1;  // dy
        const bool inside = y + lower < height;
        if (inside) {
          // Channel K adds -h' mu' (in weighted) times 1 (in kept_means), or
          // times 0 where there is no neighbour, as in all other channels.
          PairProducts(d, step, weighted + row * source_row,
              kept_means + (row + lower) * source_row,
              step.parity - step.offsets, updated_upper);
          PairProducts(d, step, kept_means + row * source_row,
              weighted + (row + lower) * source_row,
              1 - step.parity - step.offsets, kept_upper);
        }
        for (int j = 0; j < across; ++j) {
          const int pair = i * across + j;
          T* const out =
              similarities_diff +
              ((n * across * step.offsets + pair) * height + y) * width;
          if (inside) {
            WholeRow(d, updated_upper + j * half, kept_upper + j * half, width,
                step.parity, out);
          } else {
            std::fill(out, out + width, T(0));
          }
        }
      }
    }
  }
}

template <typename T>
void BackwardCompatibilityRows(
    const HalfStep& step, const T* residuals, T* compatibility_diff) {
  const hn::ScalableTag<T> d;
  const int lanes = hn::Lanes(d);
  const int channels = step.channels;
  const int plane = step.num * step.height * step.half;
#pragma omp parallel for schedule(static) if (plane >= kParallelPixels)
  for (int k = 0; k < channels; ++k) {
    const T* const q = residuals + k * plane;
    ForEachChunk(channels, [&](auto size, int first) HWY_ATTR {
      constexpr int kChannels = decltype(size)::value;
      hn::Vec<decltype(d)> sums[kChannels];
      for (int l = 0; l < kChannels; ++l) { sums[l] = hn::Zero(d); }
      const T* const messages = residuals + (channels + first) * plane;
      for (int c = 0; c < plane; c += lanes) {
        const auto x = hn::LoadU(d, q + c);
#pragma GCC unroll 16
        for (int l = 0; l < kChannels; ++l) {
          sums[l] =
              hn::MulAdd(x, hn::LoadU(d, messages + l * plane + c), sums[l]);
        }
      }
      for (int l = 0; l < kChannels; ++l) {
        compatibility_diff[k * channels + first + l] =
            hn::GetLane(hn::SumOfLanes(d, sums[l]));
      }
    });
  }
  for (int k = 0; k < channels; ++k) {
    for (int l = 0; l < k; ++l) {
      T& lower = compatibility_diff[k * channels + l];
      T& upper = compatibility_diff[l * channels + k];
      lower = upper = (lower + upper) / 2;
    }
  }
}

#define GMF_KERNELS(Suffix, T)                                                 \
  void Forward##Suffix(const HalfStep& step,                                   \
      const Eigenbasis<T>& compatibility, const T* means, const T* unary,      \
      const T* similarities, T* kept_means, T* messages, T* top) {             \
    ForwardRows(step, compatibility, means, unary, similarities, kept_means,   \
        messages, top);                                                        \
  }                                                                            \
  void BackwardUpdate##Suffix(const HalfStep& step,                            \
      const Eigenbasis<T>& compatibility, const T* messages, const T* top,     \
      const T* top_diff, T* weighted, T* residuals, T* unary_diff) {           \
    BackwardUpdateRows(step, compatibility, messages, top, top_diff, weighted, \
        residuals, unary_diff);                                                \
  }                                                                            \
  void BackwardMeans##Suffix(const HalfStep& step, const T* similarities,      \
      const T* weighted, const T* top_diff, T* means_diff) {                   \
    BackwardMeansRows(step, similarities, weighted, top_diff, means_diff);     \
  }                                                                            \
  void BackwardSimilarities##Suffix(const HalfStep& step, const T* kept_means, \
      const T* weighted, T* similarities_diff) {                               \
    BackwardSimilaritiesRows(step, kept_means, weighted, similarities_diff);   \
  }                                                                            \
  void BackwardCompatibility##Suffix(                                          \
      const HalfStep& step, const T* residuals, T* compatibility_diff) {       \
    BackwardCompatibilityRows(step, residuals, compatibility_diff);            \
  }
GMF_KERNELS(Float, float)
GMF_KERNELS(Double, double)
#undef GMF_KERNELS

}  // namespace HWY_NAMESPACE
}  // namespace gmf
}  // namespace caffe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace caffe {
namespace gmf {

HalfStep::HalfStep(
    int num, int channels, int height, int width, int parity, int window)
    : num(num),
      channels(channels),
      height(height),
      width(width),
      parity(parity),
      offsets(OddOffsets(window)),
      half(WholeVectors((width + 1) / 2)),
      margin(offsets),
      stride(half + 2 * margin) {}

HalfStep HalfStep::Other() const {
  HalfStep other = *this;
  other.parity = 1 - parity;
  return other;
}

HWY_EXPORT(ForwardFloat);
HWY_EXPORT(ForwardDouble);
HWY_EXPORT(BackwardUpdateFloat);
HWY_EXPORT(BackwardUpdateDouble);
HWY_EXPORT(BackwardMeansFloat);
HWY_EXPORT(BackwardMeansDouble);
HWY_EXPORT(BackwardSimilaritiesFloat);
HWY_EXPORT(BackwardSimilaritiesDouble);
HWY_EXPORT(BackwardCompatibilityFloat);
HWY_EXPORT(BackwardCompatibilityDouble);

#define GMF_DISPATCH(Suffix, T)                                             \
  template <>                                                               \
  void Forward(const HalfStep& step, const Eigenbasis<T>& compatibility,    \
      const T* means, const T* unary, const T* similarities, T* kept_means, \
      T* messages, T* top) {                                                \
    HWY_DYNAMIC_DISPATCH(Forward##Suffix)                                   \
    (step, compatibility, means, unary, similarities, kept_means, messages, \
        top);                                                               \
  }                                                                         \
  template <>                                                               \
  void BackwardUpdate(const HalfStep& step,                                 \
      const Eigenbasis<T>& compatibility, const T* messages, const T* top,  \
      const T* top_diff, T* weighted, T* residuals, T* unary_diff) {        \
    HWY_DYNAMIC_DISPATCH(BackwardUpdate##Suffix)                            \
    (step, compatibility, messages, top, top_diff, weighted, residuals,     \
        unary_diff);                                                        \
  }                                                                         \
  template <>                                                               \
  void BackwardMeans(const HalfStep& step, const T* similarities,           \
      const T* weighted, const T* top_diff, T* means_diff) {                \
    HWY_DYNAMIC_DISPATCH(BackwardMeans##Suffix)                             \
    (step, similarities, weighted, top_diff, means_diff);                   \
  }                                                                         \
  template <>                                                               \
  void BackwardSimilarities(const HalfStep& step, const T* kept_means,      \
      const T* weighted, T* similarities_diff) {                            \
    HWY_DYNAMIC_DISPATCH(BackwardSimilarities##Suffix)                      \
    (step, kept_means, weighted, similarities_diff);                        \
  }                                                                         \
  template <>                                                               \
  void BackwardCompatibility(                                               \
      const HalfStep& step, const T* residuals, T* compatibility_diff) {    \
    HWY_DYNAMIC_DISPATCH(BackwardCompatibility##Suffix)                     \
    (step, residuals, compatibility_diff);                                  \
  }
GMF_DISPATCH(Float, float)
GMF_DISPATCH(Double, double)
#undef GMF_DISPATCH

}  // namespace gmf
}  // namespace caffe
#endif  // HWY_ONCE
