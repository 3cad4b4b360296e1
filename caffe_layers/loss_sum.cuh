#ifndef LOSS_SUM_CUH_
#define LOSS_SUM_CUH_

#include <climits>
#include <cmath>

#include "labels.hpp"

namespace caffe {

// The loss of a batch without atomics and without the host: each block sums its
// own part, and FinishLoss, one block, sums the parts. The order of the sums
// does not depend on the device, so neither does the loss.
struct LossSum {
  double loss;
  int num_valid;
  int first_wrong;  // the index of the first wrong label, INT_MAX if none is
};

/// Neither a class nor ignored, as in CheckLabels() of labels.hpp.
template <typename Dtype>
__device__ inline bool IsWrongLabel(
    const Dtype label, const int num_classes, const Dtype ignore_label) {
  const bool is_class = label >= 0 && label < num_classes &&
                        label == static_cast<Dtype>(static_cast<int>(label));
  return !is_class && label != ignore_label;
}

/// The sum over the block. All of its threads must call it, once.
__device__ inline LossSum SumOverBlock(const LossSum own) {
  __shared__ LossSum sums[kLossThreads];
  const int t = threadIdx.x;
  sums[t] = own;
  __syncthreads();
  for (int half = kLossThreads / 2; half > 0; half /= 2) {
    if (t < half) {
      sums[t].loss += sums[t + half].loss;
      sums[t].num_valid += sums[t + half].num_valid;
      sums[t].first_wrong =
          min(sums[t].first_wrong, sums[t + half].first_wrong);
    }
    __syncthreads();
  }
  return sums[0];
}

/// Sums the blocks' parts. Without a fixed normalizer (0) the loss is the mean
/// over what is valid. A wrong label makes the loss NaN and goes to the report.
template <typename Dtype>
__global__ void FinishLoss(const int num_parts, const double* part_loss,
    const int* part_counts, const int fixed_normalizer, const int height,
    const int width, const Dtype* labels, Dtype* loss, Dtype* normalizer,
    double* report) {
  LossSum sum = {0, 0, INT_MAX};
  for (int i = threadIdx.x; i < num_parts; i += kLossThreads) {
    sum.loss += part_loss[i];
    sum.num_valid += part_counts[2 * i];
    sum.first_wrong = min(sum.first_wrong, part_counts[2 * i + 1]);
  }
  sum = SumOverBlock(sum);
  if (threadIdx.x == 0) {
    *normalizer =
        max(1, fixed_normalizer > 0 ? fixed_normalizer : sum.num_valid);
    *loss = sum.loss / *normalizer;
    if (sum.first_wrong != INT_MAX) {
      const int i = sum.first_wrong;
      *loss = NAN;
      report[1] = labels[i];
      report[2] = i / width / height;
      report[3] = i / width % height;
      report[4] = i % width;
      __threadfence_system();
      report[0] = 1;
    }
  }
}

}  // namespace caffe

#endif  // LOSS_SUM_CUH_
