#include <algorithm>
#include <cfloat>
#include <limits>
#include <vector>

#include "caffe/util/math_functions.hpp"

#include "gmf_layer.hpp"
#include "neighbourhood.cuh"
#include "neighbourhood.hpp"

namespace caffe {

/// What a kernel needs to know of a half step. The updated columns of parity
/// lie side by side in arrays of K x pixels, pixels = N x H x half, so that C
/// works on all of them in one matrix product.
struct GridOfHalf : PairGrid {
  GridOfHalf(const gmf::HalfStep& step, const int half)
      : PairGrid(step),
        channels(step.channels),
        parity(step.parity),
        half(half),
        pixels(step.num * step.height * half) {}

  int channels;
  int parity;  // of the updated columns
  int half;    // how many of them there are
  int pixels;  // N x H x half
};

// ---- C = U diag(lambda) U'

// One block finds the eigenvectors by Jacobi's method: one rotation for each
// pair (p, q) makes the element pq of the matrix A zero. The pairs of a round
// share no index, so all of its rotations happen at once; K - 1 rounds meet
// every pair, and some 8 such sweeps converge for K = 21. A single block, since
// blocks cannot wait for each other, and double precision, as on the CPU: in
// float, errors would grow with K. Latency makes it 0.1 to 0.2 ms for K = 21 on
// paper, and next to nothing where C is the last pass's, as it always is after
// training.
const int kMaxSweeps = 30;

/// Whole warps, with a thread for each piece of work of a round up to K = 25.
inline int JacobiThreads(int classes) {
  const int pairs = (classes + 1) / 2;
  return min(512, (pairs * (pairs + classes) + 31) / 32 * 32);
}

struct Pair {
  int p, q;  // p < q; q = K where an odd number of classes leaves p alone
};

/// The a-th pair of a round of a round-robin tournament between `even` players.
__device__ inline Pair PairOfRound(
    const int round, const int a, const int even) {
  const int i = (round + a) % (even - 1);
  const int j = a == 0 ? even - 1 : (round + even - 1 - a) % (even - 1);
  return {min(i, j), max(i, j)};
}

/// The rotation that makes pq zero in a symmetric matrix with diagonal pp, qq.
__device__ inline JacobiRotation RotationToZero(
    const double pp, const double qq, const double pq) {
  const double theta = (qq - pp) / (2 * pq);
  const double root = sqrt(theta * theta + 1);
  const double tangent = theta >= 0 ? 1 / (theta + root) : 1 / (theta - root);
  const double cosine = 1 / sqrt(tangent * tangent + 1);
  return {cosine, tangent * cosine};
}

__device__ inline void Rotate(const JacobiRotation by, double* p, double* q) {
  const double old_p = *p, old_q = *q;
  *p = by.cosine * old_p - by.sine * old_q;
  *q = by.sine * old_p + by.cosine * old_q;
}

/// The four elements of A where the rows of one pair meet the columns of
/// another: no other thread of the round touches them. A class without a
/// partner has one row or column, and no sine: it stands in for the missing
/// one.
__device__ inline void RotateBlock(const int classes, const Pair rows,
    const JacobiRotation by_rows, const Pair columns,
    const JacobiRotation by_columns, double* A) {
  const bool two_rows = rows.q < classes, two_columns = columns.q < classes;
  const int upper = rows.p * classes;
  const int lower = two_rows ? rows.q * classes : upper;
  const int left = columns.p, right = two_columns ? columns.q : left;
  double a = A[upper + left], b = A[upper + right];
  double c = A[lower + left], d = A[lower + right];
  Rotate(by_rows, &a, &c);
  Rotate(by_rows, &b, &d);
  Rotate(by_columns, &a, &b);
  Rotate(by_columns, &c, &d);
  A[upper + left] = a;
  if (two_columns) { A[upper + right] = b; }
  if (two_rows) { A[lower + left] = c; }
  if (two_rows && two_columns) { A[lower + right] = d; }
}

/// Says what is wrong with C: one thread, with no hurry.
template <typename Dtype>
__device__ inline void ReportCompatibility(const int classes, const Dtype* C,
    const double* A, WrongCompatibility<Dtype>* report) {
  typedef WrongCompatibility<Dtype> Wrong;
  double smallest = A[0];
  for (int k = 1; k < classes; ++k) {
    smallest = min(smallest, A[k * classes + k]);
  }
  Wrong found = {Wrong::kNegative, static_cast<Dtype>(smallest), 0, 0};
  for (int e = classes * classes - 1; e >= 0; --e) {
    if (!isfinite(C[e])) {
      found = {Wrong::kNotFinite, C[e], e / classes, e % classes};
    }
  }
  report->value = found.value;
  report->k = found.k;
  report->l = found.l;
  __threadfence_system();
  report->kind = found.kind;
}

template <typename Dtype>
__global__ void FindEigenbasis(const int classes, const bool has_basis,
    const Dtype epsilon, const Dtype* C, Dtype* known, double* A, double* U,
    JacobiRotation* rotations, Dtype* basis, Dtype* eigenvalues,
    WrongCompatibility<Dtype>* report) {
  bool has_changed = !has_basis;
  for (int e = threadIdx.x; e < classes * classes; e += blockDim.x) {
    has_changed = has_changed || !(C[e] == known[e]);
  }
  if (!__syncthreads_or(has_changed)) { return; }

  bool is_wrong = false;
  for (int e = threadIdx.x; e < classes * classes; e += blockDim.x) {
    const int i = e / classes, j = e % classes;
    known[e] = C[e];
    A[e] = (static_cast<double>(C[e]) + C[j * classes + i]) / 2;
    U[e] = i == j;
    is_wrong = is_wrong || !isfinite(C[e]);
  }
  __syncthreads();
  double norm = 0;  // at least the largest eigenvalue of a valid C
  for (int k = 0; k < classes; ++k) { norm += fabs(A[k * classes + k]); }

  const int even = classes + classes % 2, pairs = even / 2;
  bool has_rotated = true;
  for (int sweep = 0; has_rotated && sweep < kMaxSweeps; ++sweep) {
    has_rotated = false;
    for (int round = 0; round < even - 1; ++round) {
      __syncthreads();  // for A, of the round before
      for (int a = threadIdx.x; a < pairs; a += blockDim.x) {
        const Pair pair = PairOfRound(round, a, even);
        const double* row = A + pair.p * classes;
        rotations[a] = {1, 0};
        if (pair.q < classes && fabs(row[pair.q]) > DBL_EPSILON * norm) {
          rotations[a] = RotationToZero(
              row[pair.p], A[pair.q * classes + pair.q], row[pair.q]);
          has_rotated = true;
        }
      }
      __syncthreads();  // for the rotations
      for (int t = threadIdx.x; t < pairs * (pairs + classes);
           t += blockDim.x) {
        const int a = t % pairs, b = t / pairs;
        const Pair pair = PairOfRound(round, a, even);
        if (b < pairs) {
          RotateBlock(classes, PairOfRound(round, b, even), rotations[b], pair,
              rotations[a], A);
        } else if (pair.q < classes) {
          double* row = U + (b - pairs) * classes;
          double u_p = row[pair.p], u_q = row[pair.q];
          Rotate(rotations[a], &u_p, &u_q);
          row[pair.p] = u_p;
          row[pair.q] = u_q;
        }
      }
    }
    has_rotated = __syncthreads_or(has_rotated);
  }

  for (int k = threadIdx.x; k < classes; k += blockDim.x) {
    // Rounding makes the zero eigenvalues of a singular R R' slightly negative.
    is_wrong = is_wrong || !(A[k * classes + k] >= -classes * epsilon * norm);
  }
  is_wrong = __syncthreads_or(is_wrong);
  for (int k = threadIdx.x; k < classes; k += blockDim.x) {
    eigenvalues[k] = is_wrong ? NAN : max(A[k * classes + k], 0.);
  }
  for (int e = threadIdx.x; e < classes * classes; e += blockDim.x) {
    basis[e] = U[e];
  }
  if (is_wrong && threadIdx.x == 0) {
    ReportCompatibility<Dtype>(classes, C, A, report);
  }
}

// ---- Eq. (2a)

// A thread for each updated pixel and kThreadChannels channels gathers the
// messages of its neighbours; threads side by side read similarities and means
// side by side, two columns apart. 2 S K flops a pixel, and from memory each s
// and mu once; as each mean is read P times, the caches decide.
template <typename Dtype>
__global__ void GatherResiduals(const int count, const GridOfHalf grid,
    const Dtype* means, const Dtype* unary, const Dtype* similarities,
    Dtype* degrees, Dtype* residuals) {
  const int plane = grid.height * grid.width;
  CUDA_KERNEL_LOOP(index, count) {
    const int pixel = index % grid.pixels;
    const int first = index / grid.pixels * kThreadChannels;
    const int size = min(kThreadChannels, grid.channels - first);
    const int x = 2 * (pixel % grid.half) + grid.parity;
    const int y = pixel / grid.half % grid.height;
    const int n = pixel / grid.half / grid.height;
    const int from = (n * grid.channels + first) * plane;
    Dtype S = 0, m[kThreadChannels];
#pragma unroll
    for (int k = 0; k < kThreadChannels; ++k) { m[k] = 0; }
    ForEachNeighbour(y, x, grid, [&](int entry, int y_j, int x_j) {
      const Dtype s = similarities[n * grid.pairs() * plane + entry];
      const int j = from + y_j * grid.width + x_j;
      S += s;
#pragma unroll
      for (int k = 0; k < kThreadChannels; ++k) {
        if (k < size) { m[k] += s * means[j + k * plane]; }
      }
    });
#pragma unroll
    for (int k = 0; k < kThreadChannels; ++k) {
      if (k < size) {
        const Dtype r = unary[from + k * plane + y * grid.width + x];
        residuals[(first + k) * grid.pixels + pixel] = m[k] - S * r;
      }
    }
    if (first == 0) { degrees[pixel] = S; }
  }
}

// In the eigenbasis, A^-1 C is a division for each element.
template <typename Dtype>
__global__ void ScaleEigenvectors(const int count, const int pixels,
    const Dtype* degrees, const Dtype* eigenvalues, Dtype* rotated) {
  CUDA_KERNEL_LOOP(index, count) {
    const Dtype lambda = eigenvalues[index / pixels];
    rotated[index] *= lambda / (1 + degrees[index % pixels] * lambda);
  }
}

// A thread for each element of an N x K x H x W map: what `updates` holds for
// the updated pixels, added to `base` if there is one, and `kept` for the
// others, or 0.
template <typename Dtype>
__global__ void MergeColumns(const int count, const GridOfHalf grid,
    const Dtype* updates, const Dtype* base, const Dtype* kept, Dtype* merged) {
  CUDA_KERNEL_LOOP(index, count) {
    const int x = index % grid.width;
    const int row = index / grid.width;  // (n * K + k) * H + y
    if (x % 2 == grid.parity) {
      const int k = row / grid.height % grid.channels;
      const int n = row / grid.height / grid.channels;
      const int y = row % grid.height;
      const Dtype update =
          updates[k * grid.pixels + (n * grid.height + y) * grid.half + x / 2];
      merged[index] = base ? base[index] + update : update;
    } else {
      merged[index] = kept ? kept[index] : Dtype(0);
    }
  }
}

// ---- Eq. (2b)

// A thread for each updated pixel and channel: the reverse of MergeColumns.
template <typename Dtype>
__global__ void GatherUpdated(
    const int count, const GridOfHalf grid, const Dtype* map, Dtype* updated) {
  CUDA_KERNEL_LOOP(index, count) {
    const int x = 2 * (index % grid.half) + grid.parity;
    const int y = index / grid.half % grid.height;
    const int n = index % grid.pixels / grid.half / grid.height;
    const int k = index / grid.pixels;
    updated[index] =
        map[((n * grid.channels + k) * grid.height + y) * grid.width + x];
  }
}

// q = g - S h in the place of g, and m - S mu' = (m - S r) - S (mu' - r).
template <typename Dtype>
__global__ void GradientFactors(const int count, const GridOfHalf grid,
    const Dtype* degrees, const Dtype* residuals, const Dtype* h,
    const Dtype* unary, const Dtype* top, Dtype* gradient, Dtype* difference) {
  CUDA_KERNEL_LOOP(index, count) {
    const int x = 2 * (index % grid.half) + grid.parity;
    const int y = index / grid.half % grid.height;
    const int n = index % grid.pixels / grid.half / grid.height;
    const int k = index / grid.pixels;
    const int i = ((n * grid.channels + k) * grid.height + y) * grid.width + x;
    const Dtype S = degrees[index % grid.pixels];
    gradient[index] -= S * h[index];
    difference[index] = residuals[index] - S * (top[i] - unary[i]);
  }
}

// A thread for two columns side by side, one of each parity, and
// kThreadChannels channels: it gathers h of the kept pixel's neighbours, and
// clears the updated one.
template <typename Dtype>
__global__ void MeansBackward(const int count, const GridOfHalf grid,
    const Dtype* similarities, const Dtype* h, const Dtype* top_diff,
    Dtype* means_diff) {
  const int plane = grid.height * grid.width;
  const int twos = (grid.width + 1) / 2;
  const int groups = ChannelGroups(grid.channels);
  CUDA_KERNEL_LOOP(index, count) {
    const int begin = 2 * (index % twos);
    const int y = index / twos % grid.height;
    const int first = index / twos / grid.height % groups * kThreadChannels;
    const int n = index / twos / grid.height / groups;
    const int size = min(kThreadChannels, grid.channels - first);
    const int to = (n * grid.channels + first) * plane + y * grid.width;
    const int updated = begin + grid.parity, kept = begin + 1 - grid.parity;
    if (updated < grid.width) {
      for (int k = 0; k < size; ++k) {
        means_diff[to + k * plane + updated] = 0;
      }
    }
    if (kept >= grid.width) { continue; }
    Dtype sum[kThreadChannels];
#pragma unroll
    for (int k = 0; k < kThreadChannels; ++k) { sum[k] = 0; }
    ForEachNeighbour(y, kept, grid, [&](int entry, int y_i, int x_i) {
      const Dtype s = similarities[n * grid.pairs() * plane + entry];
      const int i =
          first * grid.pixels + (n * grid.height + y_i) * grid.half + x_i / 2;
#pragma unroll
      for (int k = 0; k < kThreadChannels; ++k) {
        if (k < size) { sum[k] += s * h[i + k * grid.pixels]; }
      }
    });
#pragma unroll
    for (int k = 0; k < kThreadChannels; ++k) {
      if (k < size) {
        const int j = to + k * plane + kept;
        means_diff[j] = top_diff[j] + sum[k];
      }
    }
  }
}

// A thread for each pair. One end i is updated, and the mean of the other end j
// is the top's, where it was passed through.
template <typename Dtype>
__global__ void SimilaritiesBackward(const int count, const GridOfHalf grid,
    const Dtype* h, const Dtype* top, Dtype* similarities_diff) {
  const int plane = grid.height * grid.width;
  CUDA_KERNEL_LOOP(index, count) {
    const PixelPair pair = grid.PairOf(index);
    Dtype sum = 0;
    if (grid.Contains(pair.lower_y, pair.lower_x)) {
      const bool is_upper = pair.x % 2 == grid.parity;
      const int x_i = is_upper ? pair.x : pair.lower_x;
      const int y_i = is_upper ? pair.y : pair.lower_y;
      const int x_j = is_upper ? pair.lower_x : pair.x;
      const int y_j = is_upper ? pair.lower_y : pair.y;
      const Dtype* h_i = h + (pair.n * grid.height + y_i) * grid.half + x_i / 2;
      const Dtype* map = top + pair.n * grid.channels * plane;
      const int i = y_i * grid.width + x_i, j = y_j * grid.width + x_j;
      for (int k = 0; k < grid.channels; ++k) {
        sum += h_i[k * grid.pixels] * (map[k * plane + j] - map[k * plane + i]);
      }
    }
    similarities_diff[index] = sum;
  }
}

template <typename Dtype>
__global__ void Symmetrise(
    const int count, const int classes, const Dtype* G, Dtype* C_diff) {
  CUDA_KERNEL_LOOP(index, count) {
    C_diff[index] =
        (G[index] + G[index % classes * classes + index / classes]) / 2;
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::ApplyOperator(const Blob<Dtype>& in, Blob<Dtype>* out) {
  const int classes = in.shape(0), pixels = in.count(1);
  caffe_gpu_gemm<Dtype>(CblasTrans, CblasNoTrans, classes, pixels, classes, 1,
      gpu_.basis.gpu_data(), in.gpu_data(), 0, gpu_.rotated.mutable_gpu_data());
  ScaleEigenvectors<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(in.count()), kPixelThreads>>>(in.count(), pixels,
          gpu_.degrees.gpu_data(), gpu_.eigenvalues.gpu_data(),
          gpu_.rotated.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasNoTrans, classes, pixels, classes, 1,
      gpu_.basis.gpu_data(), gpu_.rotated.gpu_data(), 0,
      out->mutable_gpu_data());
}

template <typename Dtype>
void GMFLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  StopIfWrong(*gpu_.report.get());
  const GridOfHalf grid(StepFor(*bottom[0]), gpu_.degrees.shape(2));
  FindEigenbasis<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<1, JacobiThreads(grid.channels)>>>(grid.channels, gpu_.has_basis,
          std::numeric_limits<Dtype>::epsilon(), bottom[3]->gpu_data(),
          gpu_.compatibility.mutable_gpu_data(),
          gpu_.matrices.mutable_gpu_data(),
          gpu_.matrices.mutable_gpu_data() + gpu_.basis.count(),
          gpu_.rotations.mutable_gpu_data(), gpu_.basis.mutable_gpu_data(),
          gpu_.eigenvalues.mutable_gpu_data(), gpu_.report.get());
  CUDA_POST_KERNEL_CHECK;
  gpu_.has_basis = true;
  if (grid.pixels == 0) {  // one column, and the odd ones are updated
    caffe_copy(
        top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
    return;
  }
  const int num_gathered = ChannelGroups(grid.channels) * grid.pixels;
  GatherResiduals<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(num_gathered), kPixelThreads>>>(num_gathered, grid,
          bottom[0]->gpu_data(), bottom[1]->gpu_data(), bottom[2]->gpu_data(),
          gpu_.degrees.mutable_gpu_data(), gpu_.residuals.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  ApplyOperator(gpu_.residuals, &gpu_.solved);
  const int count = top[0]->count();
  MergeColumns<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(count), kPixelThreads>>>(count, grid,
          gpu_.solved.gpu_data(), bottom[1]->gpu_data(), bottom[0]->gpu_data(),
          top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void GMFLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  StopIfWrong(*gpu_.report.get());
  const GridOfHalf grid(StepFor(*bottom[0]), gpu_.degrees.shape(2));
  if (grid.pixels == 0) {
    if (propagate_down[0]) {
      caffe_copy(
          top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    }
    for (int i = 1; i < 4; ++i) {
      if (propagate_down[i]) {
        caffe_gpu_set(
            bottom[i]->count(), Dtype(0), bottom[i]->mutable_gpu_diff());
      }
    }
    return;
  }
  const int num_updated = gpu_.gathered.count();
  GatherUpdated<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(num_updated), kPixelThreads>>>(num_updated, grid,
          top[0]->gpu_diff(), gpu_.gathered.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  Blob<Dtype>&h = gpu_.solved, &q = gpu_.gathered, &difference = gpu_.rotated;
  ApplyOperator(gpu_.gathered, &h);
  GradientFactors<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(num_updated), kPixelThreads>>>(num_updated, grid,
          gpu_.degrees.gpu_data(), gpu_.residuals.gpu_data(), h.gpu_data(),
          bottom[1]->gpu_data(), top[0]->gpu_data(), q.mutable_gpu_data(),
          difference.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  if (propagate_down[0]) {
    const int twos = (grid.width + 1) / 2;
    const int count =
        bottom[0]->num() * ChannelGroups(grid.channels) * grid.height * twos;
    MeansBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
        <<<PixelBlocks(count), kPixelThreads>>>(count, grid,
            bottom[2]->gpu_data(), h.gpu_data(), top[0]->gpu_diff(),
            bottom[0]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[1]) {
    const int count = bottom[1]->count();
    const Dtype* const none = NULL;
    MergeColumns<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
        <<<PixelBlocks(count), kPixelThreads>>>(count, grid, q.gpu_data(), none,
            none, bottom[1]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[2]) {
    const int count = bottom[2]->count();
    SimilaritiesBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
        <<<PixelBlocks(count), kPixelThreads>>>(count, grid, h.gpu_data(),
            top[0]->gpu_data(), bottom[2]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
  if (propagate_down[3]) {
    const int classes = grid.channels, count = bottom[3]->count();
    Dtype* const G = gpu_.product.mutable_gpu_data();
    caffe_gpu_gemm<Dtype>(CblasNoTrans, CblasTrans, classes, classes,
        grid.pixels, 1, q.gpu_data(), difference.gpu_data(), 0, G);
    Symmetrise<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
        <<<PixelBlocks(count), kPixelThreads>>>(
            count, classes, G, bottom[3]->mutable_gpu_diff());
    CUDA_POST_KERNEL_CHECK;
  }
}

template void GMFLayer<float>::ApplyOperator(
    const Blob<float>& in, Blob<float>* out);
template void GMFLayer<double>::ApplyOperator(
    const Blob<double>& in, Blob<double>* out);
INSTANTIATE_LAYER_GPU_FUNCS(GMFLayer);

}  // namespace caffe
