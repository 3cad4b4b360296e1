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

#include "gmf_kernels.hpp"
#include "hwy/aligned_allocator.h"
#include "kernels-inl.hpp"
#include "neighbourhood.hpp"
#include "parallel.hpp"

HWY_BEFORE_NAMESPACE();
namespace caffe {
namespace gmf {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using caffe::HWY_NAMESPACE::ForEachChunk;
using caffe::HWY_NAMESPACE::In;
using caffe::HWY_NAMESPACE::KeepLoaded;
using caffe::HWY_NAMESPACE::MapRow;
using caffe::HWY_NAMESPACE::Out;
using caffe::HWY_NAMESPACE::Rows;

// ---- Rows. In the arrays of half rows, row n H + y is the one of image n's y.

template <typename T>
HWY_INLINE Rows<T> MarginRow(const HalfStep& step, T* array, int row) {
  return {array + row * (step.channels + 1) * step.stride + step.margin,
      step.stride};
}

template <typename T>
HWY_INLINE Rows<T> MessageRow(const HalfStep& step, T* messages, int row) {
  return {messages + row * (step.channels + 1) * step.half, step.half};
}

/// part 0 holds q, part 1 holds m - S mu'.
template <typename T>
HWY_INLINE Rows<T> ResidualRow(
    const HalfStep& step, T* residuals, int part, int row) {
  const int plane = step.num * step.height * step.half;
  return {residuals + part * step.channels * plane + row * step.half, plane};
}

/// How many columns of a parity lie before column x.
inline int ColumnsBefore(int x, int parity) { return (x + 1 - parity) / 2; }

/// halves[k][c] = rows[k][2 c + parity] for the columns there are, 0 up to
/// half.
template <class D>
HWY_INLINE void TakeColumns(
    D d, const HalfStep& step, int parity, In<D> rows, Out<D> halves) {
  using T = hn::TFromD<D>;
  const int lanes = hn::Lanes(d);
  for (int k = 0; k < step.channels; ++k) {
    const T* const row = rows[k];
    T* const out = halves[k];
    int c = 0;
    for (; 2 * (c + lanes) <= step.width; c += lanes) {
      const auto low = hn::LoadU(d, row + 2 * c);
      const auto high = hn::LoadU(d, row + 2 * c + lanes);
      hn::StoreU(
          parity ? hn::ConcatOdd(d, high, low) : hn::ConcatEven(d, high, low),
          d, out + c);
    }
    for (; 2 * c + parity < step.width; ++c) { out[c] = row[2 * c + parity]; }
    std::fill(out + c, out + step.half, T(0));
  }
}

/// rows[k][2 c + parity] = halves[k][c], rows[k][2 c + 1 - parity] =
/// others[k][c] for the given number of channels k.
template <class D>
HWY_INLINE void MergeColumns(D d, const HalfStep& step, int parity,
    int channels, In<D> halves, In<D> others, Out<D> rows) {
  const int lanes = hn::Lanes(d);
  const In<D> evens = parity ? others : halves, odds = parity ? halves : others;
  for (int k = 0; k < channels; ++k) {
    const auto* const even = evens[k];
    const auto* const odd = odds[k];
    auto* const row = rows[k];
    int c = 0;
    for (; 2 * (c + lanes) <= step.width; c += lanes) {
      hn::StoreInterleaved2(
          hn::LoadU(d, even + c), hn::LoadU(d, odd + c), d, row + 2 * c);
    }
    for (int x = 2 * c; x < step.width; ++x) {
      const auto* const from = x % 2 ? odd : even;
      row[x] = from[x / 2];
    }
  }
}

template <typename T>
HWY_INLINE void ClearMargins(const HalfStep& step, Rows<T> rows) {
  for (int k = 0; k <= step.channels; ++k) {
    std::fill(rows[k] - step.margin, rows[k], T(0));
    std::fill(rows[k] + step.half, rows[k] + step.half + step.margin, T(0));
  }
}

// ---- Formulas, for the K half rows of a row's pixels

/// out = a - S b
template <class D, typename T>
HWY_INLINE void SubtractScaled(
    D d, const HalfStep& step, In<D> a, const T* S, In<D> b, Out<D> out) {
  const int lanes = hn::Lanes(d);
  for (int k = 0; k < step.channels; ++k) {
    for (int c = 0; c < step.half; c += lanes) {
      hn::StoreU(hn::NegMulAdd(hn::LoadU(d, S + c), hn::LoadU(d, b[k] + c),
                     hn::LoadU(d, a[k] + c)),
          d, out[k] + c);
    }
  }
}

/// out = a + b
template <class D>
HWY_INLINE void AddRows(
    D d, const HalfStep& step, In<D> a, In<D> b, Out<D> out) {
  const int lanes = hn::Lanes(d);
  for (int k = 0; k < step.channels; ++k) {
    for (int c = 0; c < step.half; c += lanes) {
      hn::StoreU(hn::Add(hn::LoadU(d, a[k] + c), hn::LoadU(d, b[k] + c)), d,
          out[k] + c);
    }
  }
}

/// out = -a' b
template <class D, typename T>
HWY_INLINE void NegativeProduct(
    D d, const HalfStep& step, In<D> a, In<D> b, T* out) {
  const int lanes = hn::Lanes(d);
  for (int c = 0; c < step.half; c += lanes) {
    auto sum = hn::Zero(d);
    for (int k = 0; k < step.channels; ++k) {
      sum = hn::MulAdd(hn::LoadU(d, a[k] + c), hn::LoadU(d, b[k] + c), sum);
    }
    hn::StoreU(hn::Neg(sum), d, out + c);
  }
}

/// out = M' in for a K x K matrix M; each sum is then passed through
/// finish(channel, column, sum).
template <class D, typename T, class Finish>
HWY_INLINE void Multiply(D d, const HalfStep& step, const T* matrix, In<D> in,
    Out<D> out, const Finish& finish) {
  const int lanes = hn::Lanes(d), channels = step.channels;
  ForEachChunk(channels, [&](auto size, int first) HWY_ATTR {
    constexpr int kChannels = decltype(size)::value;
    for (int c = 0; c < step.half; c += lanes) {
      hn::Vec<D> sums[kChannels];
      for (int k = 0; k < kChannels; ++k) { sums[k] = hn::Zero(d); }
      for (int l = 0; l < channels; ++l) {
        const auto x = hn::LoadU(d, in[l] + c);
#pragma GCC unroll 16
        for (int k = 0; k < kChannels; ++k) {
          sums[k] = hn::MulAdd(
              hn::Set(d, matrix[l * channels + first + k]), x, sums[k]);
        }
      }
      for (int k = 0; k < kChannels; ++k) {
        hn::StoreU(finish(first + k, c, sums[k]), d, out[first + k] + c);
      }
    }
  });
}

/// out = A^-1 C in = U diag(lambda / (1 + S lambda)) U' in, by way of rotated.
template <class D, typename T>
HWY_INLINE void Couple(D d, const HalfStep& step,
    const Eigenbasis<T>& compatibility, const T* S, In<D> in, Out<D> rotated,
    Out<D> out) {
  const auto one = hn::Set(d, T(1));
  Multiply(d, step, compatibility.basis, in, rotated,
      [&](int k, int c, hn::Vec<D> sum) HWY_ATTR {
        const auto lambda = hn::Set(d, compatibility.eigenvalues[k]);
        return hn::Div(
            hn::Mul(sum, lambda), hn::MulAdd(hn::LoadU(d, S + c), lambda, one));
      });
  Multiply(d, step, compatibility.basis_transposed, rotated, out,
      [](int, int, hn::Vec<D> sum) HWY_ATTR { return sum; });
}

// ---- Sums over the neighbours

/**
 * The similarities of row y's updated pixels to their neighbours, as weights:
 * (2n rows dy) x (2n columns dx) half rows; 0 where there is no neighbour. Rows
 * of neighbours outside the image are left as they are.
 */
template <class D, typename T>
HWY_INLINE void GatherWeights(
    D d, const HalfStep& step, const T* similarities, int y, Out<D> weights) {
  const int lanes = hn::Lanes(d), half = step.half, across = step.across();
  const int count = step.pairs() * step.height * step.width;
  for (int i = 0; i < across; ++i) {
    const int dy = step.OffsetAlong(i);
    if (y + dy < 0 || y + dy >= step.height) { continue; }
    // From one j to the next it is equally far.
    int first = step.EntryOf(y, step.parity, dy, -step.reach());
    const int apart =
        step.EntryOf(y, step.parity, dy, 2 - step.reach()) - first;
    for (int j = 0; j < across; ++j, first += apart) {
      const int dx = step.OffsetAlong(j);
      const int begin = ColumnsBefore(step.BeginColumn(dx), step.parity);
      const int end = ColumnsBefore(step.EndColumn(dx), step.parity);
      T* const out = weights[i * across + j];
      if (first >= 0 && first + 2 * half <= count) {
        for (int c = 0; c < half; c += lanes) {
          const T* const in = similarities + first + 2 * c;
          hn::Store(
              hn::ConcatEven(d, hn::LoadU(d, in + lanes), hn::LoadU(d, in)), d,
              out + c);
        }
      } else {  // at either end of the array
        for (int c = begin; c < end; ++c) {
          out[c] = similarities[first + 2 * c];
        }
      }
      for (int c = 0; c < begin; ++c) { out[c] = 0; }
      for (int c = end; c < half; ++c) { out[c] = 0; }
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
 * Weighted sums over the neighbours of the updated pixels in a row y and, for
 * kRows = 2, y + 2, which share all but one of their rows of neighbours: each
 * vector loaded serves both. source: row y of the kept means or of weighted;
 * the sums of y + 2 begin `apart` half rows after those of y.
 */
template <int kRows, class D>
HWY_INLINE void SumNeighbours(D d, const HalfStep& step, In<D> source,
    int channels, int y, In<D> weights, Out<D> sums, int apart) {
  using T = hn::TFromD<D>;
  const int lanes = hn::Lanes(d), across = step.across();
  ForEachChunk(channels, [&](auto size, int first) HWY_ATTR {
    constexpr int kChannels = decltype(size)::value;
    for (int c = 0; c < step.half; c += lanes) {
      using V = hn::Vec<D>;
      V totals[kRows][kChannels];
      for (int row = 0; row < kRows; ++row) {
        for (int k = 0; k < kChannels; ++k) { totals[row][k] = hn::Zero(d); }
      }
      // Row i of neighbours is row i of y's weights and row i - 1 of y + 2's.
      for (int i = 0; i < across + kRows - 1; ++i) {
        const int dy = step.OffsetAlong(i);
        if (y + dy < 0 || y + dy >= step.height) { continue; }
        // dx = 2 j - reach is a shift by j - n + parity between half rows.
        const T* const in = source[dy * (step.channels + 1) + first] -
                            step.offsets + step.parity + c;
        const T* row_weights[kRows];
        for (int row = 0; row < kRows; ++row) {
          row_weights[row] =
              weights[row * across * across + (i - row) * across] + c;
        }
        if (kRows == 2 && i == 0) {
          AddTaps<0, 1>(
              d, row_weights, step.half, in, step.stride, across, totals);
        } else if (kRows == 2 && i == across) {
          AddTaps<kRows - 1, kRows>(
              d, row_weights, step.half, in, step.stride, across, totals);
        } else {
          AddTaps<0, kRows>(
              d, row_weights, step.half, in, step.stride, across, totals);
        }
      }
      for (int row = 0; row < kRows; ++row) {
        for (int k = 0; k < kChannels; ++k) {
          hn::StoreU(totals[row][k], d, sums[row * apart + first + k] + c);
        }
      }
    }
  });
}

/// What SumNeighbours takes at once: row y of image n and, if count is 2, row
/// y + 2.
struct RowGroup {
  int n, y, count;
};

/// The number of groups in an image: of four rows, 0 and 2 are one and 1 and 3.
inline int RowGroups(int height) {
  return height / 4 * 2 + std::min(height % 4, 2);
}

inline RowGroup RowGroupAt(const HalfStep& step, int index) {
  const int groups = RowGroups(step.height), group = index % groups;
  const int y = group / 2 * 4 + group % 2;
  return {index / groups, y, y + 2 < step.height ? 2 : 1};
}

/// Half rows of scratch for the weights of a row of pixels.
inline int NumWeights(const HalfStep& step) {
  return step.across() * step.across();
}

/// Weighted sums over the neighbours of all updated pixels of a row group, as
/// in SumNeighbours. weights: scratch for two rows.
template <class D, typename T>
HWY_INLINE void SumRowGroup(D d, const HalfStep& step, const T* source,
    int channels, const T* similarities, const RowGroup& group, Out<D> weights,
    Out<D> sums, int apart) {
  const T* const image =
      MapRow(step, step.pairs(), similarities, group.n, 0).first;
  for (int i = 0; i < group.count; ++i) {
    GatherWeights(
        d, step, image, group.y + 2 * i, weights.From(i * NumWeights(step)));
  }
  const Rows<const T> row =
      MarginRow(step, source, group.n * step.height + group.y);
  if (group.count == 2) {
    SumNeighbours<2>(d, step, row, channels, group.y, weights, sums, apart);
  } else {
    SumNeighbours<1>(d, step, row, channels, group.y, weights, sums, apart);
  }
}

// ---- Kernels

inline bool IsParallel(const HalfStep& step) {
  return step.num * step.height * step.width >= kMinParallelPixels;
}

/// The columns of a row that stay, and in channel K where there are some.
template <class D>
HWY_INLINE void KeepMeans(D d, const HalfStep& step, In<D> means, Out<D> kept) {
  using T = hn::TFromD<D>;
  const int parity = 1 - step.parity;
  TakeColumns(d, step, parity, means, kept);
  T* const inside = kept[step.channels];
  const int count = ColumnsBefore(step.width, parity);
  std::fill(inside, inside + count, T(1));
  std::fill(inside + count, inside + step.half, T(0));
  ClearMargins(step, kept);
}

template <typename T>
void Run(const Forward<T>& in) {
  const hn::ScalableTag<T> d;
  const HalfStep& step = in.step;
  const int K = step.channels, height = step.height;
#pragma omp parallel if (IsParallel(step))
  {
    const auto scratch =
        hwy::AllocateAligned<T>((2 * NumWeights(step) + 3 * K) * step.half);
    const Rows<T> weights{scratch.get(), step.half};
    const Rows<T> r = weights.From(2 * NumWeights(step));
    const Rows<T> residual = r.From(K), rotated = r.From(2 * K);
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      KeepMeans(d, step, MapRow(step, K, in.means, row / height, row % height),
          MarginRow(step, in.kept_means, row));
    }
#pragma omp for schedule(static)
    for (int i = 0; i < step.num * RowGroups(height); ++i) {
      const RowGroup group = RowGroupAt(step, i);
      const int n = group.n, first = n * height + group.y;
      SumRowGroup(d, step, in.kept_means, K + 1, in.similarities, group,
          weights, MessageRow(step, in.messages, first), 2 * (K + 1));
      for (int row = first; row < first + 2 * group.count; row += 2) {
        const int y = row - n * height;
        const Rows<const T> m = MessageRow(step, in.messages, row);
        const T* const S = m[K];
        TakeColumns(d, step, step.parity, MapRow(step, K, in.unary, n, y), r);
        SubtractScaled(d, step, m, S, r, residual);
        Couple(d, step, in.compatibility, S, residual, rotated, residual);
        AddRows(d, step, r, residual, r);  // Eq. (2a)
        MergeColumns(d, step, step.parity, K, r,
            MarginRow(step, in.kept_means, row), MapRow(step, K, in.top, n, y));
      }
    }
  }
}

template <typename T>
void Run(const BackwardUpdate<T>& in) {
  const hn::ScalableTag<T> d;
  const HalfStep& step = in.step;
  const int K = step.channels, height = step.height, half = step.half;
#pragma omp parallel if (IsParallel(step))
  {
    const auto scratch = hwy::AllocateAligned<T>((3 * K + 1) * half);
    const Rows<T> g{scratch.get(), half}, mu = g.From(K);
    const Rows<T> rotated = g.From(2 * K), zeros{g[3 * K], 0};
    std::fill(zeros.first, zeros.first + half, T(0));
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      const int n = row / height, y = row % height;
      const Rows<const T> m = MessageRow(step, in.messages, row);
      const T* const S = m[K];
      const Rows<T> h = MarginRow(step, in.weighted, row);
      const Rows<T> q = ResidualRow(step, in.residuals, 0, row);
      const Rows<T> difference = ResidualRow(step, in.residuals, 1, row);
      TakeColumns(d, step, step.parity, MapRow(step, K, in.top_diff, n, y), g);
      TakeColumns(d, step, step.parity, MapRow(step, K, in.top, n, y), mu);
      Couple(d, step, in.compatibility, S, g, rotated, h);  // Eq. (2b)
      SubtractScaled(d, step, g, S, h, q);
      SubtractScaled(d, step, m, S, mu, difference);
      NegativeProduct(d, step, h, mu, h[K]);
      ClearMargins(step, h);
      if (in.unary_diff) {
        MergeColumns(d, step, step.parity, K, q, zeros,
            MapRow(step, K, in.unary_diff, n, y));
      }
    }
  }
}

template <typename T>
void Run(const BackwardMeans<T>& in) {
  const hn::ScalableTag<T> d;
  const HalfStep step = in.step.Other();  // h flows back to the kept columns
  const int K = step.channels;
#pragma omp parallel if (IsParallel(step))
  {
    const auto scratch =
        hwy::AllocateAligned<T>((2 * NumWeights(step) + 3 * K + 1) * step.half);
    const Rows<T> weights{scratch.get(), step.half};
    const Rows<T> sums = weights.From(2 * NumWeights(step));
    const Rows<T> g = sums.From(2 * K), zeros{g[K], 0};
    std::fill(zeros.first, zeros.first + step.half, T(0));
#pragma omp for schedule(static)
    for (int i = 0; i < step.num * RowGroups(step.height); ++i) {
      const RowGroup group = RowGroupAt(step, i);
      SumRowGroup(
          d, step, in.weighted, K, in.similarities, group, weights, sums, K);
      for (int j = 0; j < group.count; ++j) {
        const int n = group.n, y = group.y + 2 * j;
        TakeColumns(
            d, step, step.parity, MapRow(step, K, in.top_diff, n, y), g);
        AddRows(d, step, g, sums.From(j * K), g);
        MergeColumns(d, step, step.parity, K, g, zeros,
            MapRow(step, K, in.means_diff, n, y));
      }
    }
  }
}

/**
 * out[j][c] = sum over k <= K of upper[k][c] lower[k][c + j + shift], for the
 * half rows of the upper and the lower ends of the pairs of one dy.
 */
template <class D>
HWY_INLINE void PairProducts(D d, const HalfStep& step, In<D> upper,
    In<D> lower, int shift, Out<D> out) {
  const int lanes = hn::Lanes(d);
  ForEachChunk(step.across(), [&](auto size, int first) HWY_ATTR {
    constexpr int kOffsets = decltype(size)::value;
    for (int c = 0; c < step.half; c += lanes) {
      hn::Vec<D> sums[kOffsets];
      for (int j = 0; j < kOffsets; ++j) { sums[j] = hn::Zero(d); }
      for (int k = 0; k <= step.channels; ++k) {
        const auto x = hn::LoadU(d, upper[k] + c);
        const auto* const neighbours = lower[k] + c + first + shift;
#pragma GCC unroll 16
        for (int j = 0; j < kOffsets; ++j) {
          sums[j] = hn::MulAdd(x, hn::LoadU(d, neighbours + j), sums[j]);
        }
      }
      for (int j = 0; j < kOffsets; ++j) {
        hn::StoreU(sums[j], d, out[first + j] + c);
      }
    }
  });
}

template <typename T>
void Run(const BackwardSimilarities<T>& in) {
  const hn::ScalableTag<T> d;
  const HalfStep& step = in.step;
  const int height = step.height, across = step.across();
#pragma omp parallel if (IsParallel(step))
  {
    const auto scratch = hwy::AllocateAligned<T>(2 * across * step.half);
    const Rows<T> updated_upper{scratch.get(), step.half};
    const Rows<T> kept_upper = updated_upper.From(across);
#pragma omp for schedule(static)
    for (int row = 0; row < step.num * height; ++row) {
      const int n = row / height, y = row % height;
      const Rows<const T> h = MarginRow(step, in.weighted, row);
      const Rows<const T> mu = MarginRow(step, in.kept_means, row);
      const Rows<T> similarities_diff =
          MapRow(step, step.pairs(), in.similarities_diff, n, y);
      for (int p = 0; p < step.pairs(); p += across) {
        const int dy = step.OffsetOf(p).dy;
        const Rows<T> out = similarities_diff.From(p);
        if (y + dy >= height) {
          for (int j = 0; j < across; ++j) {
            std::fill(out[j], out[j] + step.width, T(0));
          }
          continue;
        }
        // Channel K adds -h' mu' (in weighted) times 1 (in kept_means), or
        // times 0 where there is no neighbour, as in all other channels.
        PairProducts(d, step, h, MarginRow(step, in.kept_means, row + dy),
            step.parity - step.offsets, updated_upper);
        PairProducts(d, step, mu, MarginRow(step, in.weighted, row + dy),
            1 - step.parity - step.offsets, kept_upper);
        MergeColumns(
            d, step, step.parity, across, updated_upper, kept_upper, out);
      }
    }
  }
}

template <typename T>
void Run(const BackwardCompatibility<T>& in) {
  const hn::ScalableTag<T> d;
  const HalfStep& step = in.step;
  const int lanes = hn::Lanes(d), K = step.channels;
  const int plane = step.num * step.height * step.half;
  const Rows<const T> q = ResidualRow(step, in.residuals, 0, 0);
  const Rows<const T> difference = ResidualRow(step, in.residuals, 1, 0);
  const Rows<T> G{in.compatibility_diff, K};
#pragma omp parallel for schedule(static) if (plane >= kMinParallelPixels)
  for (int k = 0; k < K; ++k) {
    ForEachChunk(K, [&](auto size, int first) HWY_ATTR {
      constexpr int kChannels = decltype(size)::value;
      hn::Vec<decltype(d)> sums[kChannels];
      for (int l = 0; l < kChannels; ++l) { sums[l] = hn::Zero(d); }
      for (int c = 0; c < plane; c += lanes) {
        const auto x = hn::LoadU(d, q[k] + c);
#pragma GCC unroll 16
        for (int l = 0; l < kChannels; ++l) {
          sums[l] =
              hn::MulAdd(x, hn::LoadU(d, difference[first + l] + c), sums[l]);
        }
      }
      for (int l = 0; l < kChannels; ++l) {
        G[k][first + l] = hn::GetLane(hn::SumOfLanes(d, sums[l]));
      }
    });
  }
  for (int k = 0; k < K; ++k) {
    for (int l = 0; l < k; ++l) { G[k][l] = G[l][k] = (G[k][l] + G[l][k]) / 2; }
  }
}

COMPILE_KERNEL(Forward)
COMPILE_KERNEL(BackwardUpdate)
COMPILE_KERNEL(BackwardMeans)
COMPILE_KERNEL(BackwardSimilarities)
COMPILE_KERNEL(BackwardCompatibility)

}  // namespace HWY_NAMESPACE
}  // namespace gmf
}  // namespace caffe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace caffe {
namespace gmf {

HalfStep::HalfStep(
    int num, int channels, int height, int width, int parity, int window)
    : PairGrid(height, width, window),
      num(num),
      channels(channels),
      parity(parity),
      half(WholeVectors((width + 1) / 2)),
      margin(offsets),
      stride(half + 2 * margin) {}

HalfStep HalfStep::Other() const {
  HalfStep other = *this;
  other.parity = 1 - parity;
  return other;
}

DISPATCH_KERNEL(Forward)
DISPATCH_KERNEL(BackwardUpdate)
DISPATCH_KERNEL(BackwardMeans)
DISPATCH_KERNEL(BackwardSimilarities)
DISPATCH_KERNEL(BackwardCompatibility)

}  // namespace gmf
}  // namespace caffe
#endif  // HWY_ONCE
