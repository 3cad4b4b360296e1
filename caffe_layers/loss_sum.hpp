#ifndef LOSS_SUM_HPP_
#define LOSS_SUM_HPP_

#include "labels.hpp"
#include "struct_blob.hpp"

namespace caffe {

/// The blocks of the losses' kernels: 256 threads are 8 warps, enough to hide
/// the latency of memory, and each block leaves one LossSum.
const int kLossThreads = 256;
inline int LossBlocks(int count) {
  return (count + kLossThreads - 1) / kLossThreads;
}

/// What a part of a batch adds to the loss. See loss_sum.cuh.
struct LossSum {
  double loss;
  int num_valid;
  int first_wrong;  // the index of the first wrong label, INT_MAX if none is
};

}  // namespace caffe

#endif  // LOSS_SUM_HPP_
