#ifndef LOSS_SUM_CUH_
#define LOSS_SUM_CUH_

#include <climits>
#include <cmath>

#include "labels.hpp"
#include "loss_sum.hpp"

namespace caffe {

// The loss of a batch without atomics and without the host: each block sums its
// own part, and FinishLoss, one block, sums the parts. The order of the sums
// does not depend on the device, so neither does the loss.

/// Neither a class nor ignored, as in CheckLabels() of labels.hpp.
template <typename Dtype>
__device__ inline bool IsWrongLabel(
    const Dtype label, const int num_classes, const Dtype ignore_label) {
  const bool is_class = label >= 0 && label < num_classes &&
                        label == static_cast<Dtype>(static_cast<int>(label));
  return !is_class && label != ignore_label;
}

__device__ inline LossSum Plus(const LossSum a, const LossSum b) {
  return {a.loss + b.loss, a.num_valid + b.num_valid,
      min(a.first_wrong, b.first_wrong)};
}

/// The sum over the block. All of its threads must call it, once.
__device__ inline LossSum SumOverBlock(const LossSum own) {
  __shared__ LossSum sums[kLossThreads];
  const int t = threadIdx.x;
  sums[t] = own;
  __syncthreads();
  for (int half = kLossThreads / 2; half > 0; half /= 2) {
    if (t < half) { sums[t] = Plus(sums[t], sums[t + half]); }
    __syncthreads();
  }
  return sums[0];
}

/// Sums the blocks' parts. Without a fixed normalizer (0) the loss is the mean
/// over what is valid. A wrong label makes the loss NaN and goes to the report.
template <typename Dtype>
__global__ void FinishLoss(const int num_parts, const LossSum* parts,
    const int fixed_normalizer, const int height, const int width,
    const Dtype* labels, Dtype* loss, Dtype* normalizer, WrongLabel* report) {
  LossSum sum = {0, 0, INT_MAX};
  for (int i = threadIdx.x; i < num_parts; i += kLossThreads) {
    sum = Plus(sum, parts[i]);
  }
  sum = SumOverBlock(sum);
  if (threadIdx.x == 0) {
    *normalizer =
        max(1, fixed_normalizer > 0 ? fixed_normalizer : sum.num_valid);
    *loss = sum.loss / *normalizer;
    if (sum.first_wrong != INT_MAX) {
      const int i = sum.first_wrong;
      *loss = NAN;
      *report = {
          0, labels[i], i / width / height, i / width % height, i % width};
      __threadfence_system();
      report->is_found = 1;
    }
  }
}

}  // namespace caffe

#endif  // LOSS_SUM_CUH_
