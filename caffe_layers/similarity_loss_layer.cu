#include <algorithm>
#include <vector>

#include "loss_sum.cuh"
#include "similarity_loss_layer.hpp"

namespace caffe {

/// 1 for a valid pair of like pixels, -1 for one of unlike pixels, 0 for none.
/// The labels are few and stay in the caches.
template <typename Dtype>
__device__ inline int KindOfPair(const PixelPair pair, const PairGrid grid,
    const Dtype* labels, const Dtype ignore_label) {
  if (!grid.Contains(pair.lower_y, pair.lower_x)) { return 0; }
  const Dtype* l = labels + pair.n * grid.height * grid.width;
  const Dtype upper = l[pair.y * grid.width + pair.x];
  const Dtype lower = l[pair.lower_y * grid.width + pair.lower_x];
  if (upper == ignore_label || lower == ignore_label) { return 0; }
  return upper == lower ? 1 : -1;
}

// A thread for each similarity: all of them are read once, side by side.
template <typename Dtype>
__global__ void SimilarityLossForward(const int count, const PairGrid grid,
    const Dtype h, const Dtype ignore_label, const Dtype* similarities,
    const Dtype* labels, LossSum* block_sums) {
  LossSum own = {0, 0, INT_MAX};
  const int index = blockIdx.x * kLossThreads + threadIdx.x;
  if (index < count) {
    const PixelPair pair = grid.PairOf(index);
    const int kind = KindOfPair<Dtype>(pair, grid, labels, ignore_label);
    if (kind != 0) {
      const Dtype s = similarities[index];
      own.loss = kind > 0 ? -s : max(s - h, Dtype(0));  // Eq. (7)
      own.num_valid = 1;
    }
    // The threads of the first pair look at their pixels' labels.
    const int pixel = (pair.n * grid.height + pair.y) * grid.width + pair.x;
    if (pair.p == 0 &&
        IsWrongLabel(labels[pixel], kAnyNumberOfClasses, ignore_label)) {
      own.first_wrong = pixel;
    }
  }
  const LossSum sum = SumOverBlock(own);
  if (threadIdx.x == 0) { block_sums[blockIdx.x] = sum; }
}

template <typename Dtype>
__global__ void SimilarityLossBackward(const int count, const PairGrid grid,
    const Dtype h, const Dtype ignore_label, const Dtype* similarities,
    const Dtype* labels, const Dtype* loss_diff, const Dtype* normalizer,
    Dtype* similarities_diff) {
  const Dtype scale = *loss_diff / *normalizer;
  CUDA_KERNEL_LOOP(index, count) {
    const int kind =
        KindOfPair<Dtype>(grid.PairOf(index), grid, labels, ignore_label);
    const bool too_similar = kind < 0 && similarities[index] > h;
    similarities_diff[index] =
        kind > 0 ? -scale : (too_similar ? scale : Dtype(0));
  }
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LossParameter& loss_param = this->layer_param_.loss_param();
  CheckReportedLabel(
      this->layer_param_.name(), &report_, kAnyNumberOfClasses, loss_param);
  const int count = bottom[0]->count(), blocks = LossBlocks(count);
  SimilarityLossForward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<blocks, kLossThreads>>>(count, GridOf(*bottom[0]),
          this->layer_param_.similarity_loss_param().threshold(),
          IgnoreLabel<Dtype>(loss_param), bottom[0]->gpu_data(),
          bottom[1]->gpu_data(), block_sums_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  const int mean_over_valid = 0;
  FinishLoss<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<1, kLossThreads>>>(blocks, block_sums_.mutable_gpu_data(),
          mean_over_valid, bottom[1]->height(), bottom[1]->width(),
          bottom[1]->gpu_data(), top[0]->mutable_gpu_data(),
          normalizer_.mutable_gpu_data(), report_.get());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  CheckNoLabelGradient(this->layer_param_.name(), propagate_down);
  if (!propagate_down[0]) { return; }
  const int count = bottom[0]->count();
  SimilarityLossBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<LossBlocks(count), kLossThreads>>>(count, GridOf(*bottom[0]),
          this->layer_param_.similarity_loss_param().threshold(),
          IgnoreLabel<Dtype>(this->layer_param_.loss_param()),
          bottom[0]->gpu_data(), bottom[1]->gpu_data(), top[0]->gpu_diff(),
          normalizer_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(SimilarityLossLayer);

}  // namespace caffe
