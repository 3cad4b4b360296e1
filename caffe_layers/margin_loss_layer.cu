#include <vector>

#include "loss_sum.cuh"
#include "margin_loss_layer.hpp"

namespace caffe {

// A thread for each pixel; in each plane of scores, neighbouring threads read
// neighbouring pixels. Every score is read once, and little else is.
template <typename Dtype>
__global__ void MarginLossForward(const int count, const int num_classes,
    const int plane, const Dtype margin, const Dtype ignore_label,
    const Dtype* scores, const Dtype* labels, int* rivals,
    LossSum* block_sums) {
  LossSum own = {0, 0, INT_MAX};
  const int index = blockIdx.x * kLossThreads + threadIdx.x;
  if (index < count) {
    const Dtype label = labels[index];
    const Dtype* y =
        scores + index / plane * num_classes * plane + index % plane;
    int rival = -1;
    if (IsWrongLabel(label, num_classes, ignore_label)) {
      own.first_wrong = index;
    } else if (label != ignore_label) {
      const int l = static_cast<int>(label);
      Dtype best = -INFINITY;
      for (int k = 0; k < num_classes; ++k) {
        const Dtype score = y[k * plane];
        if (k != l && score > best) {
          best = score;
          rival = k;
        }
      }
      const Dtype L = margin - (y[l * plane] - best);  // Eq. (6)
      own.num_valid = 1;
      if (L <= 0) {
        rival = -1;
      } else {
        own.loss = L;  // NaN scores end here, in a loss of NaN
      }
    }
    rivals[index] = rival;
  }
  const LossSum sum = SumOverBlock(own);
  if (threadIdx.x == 0) { block_sums[blockIdx.x] = sum; }
}

// Again a thread for each pixel, which writes its gradient in every plane.
template <typename Dtype>
__global__ void MarginLossBackward(const int count, const int num_classes,
    const int plane, const Dtype* labels, const int* rivals,
    const Dtype* loss_diff, const Dtype* normalizer, Dtype* scores_diff) {
  const Dtype scale = *loss_diff / *normalizer;
  CUDA_KERNEL_LOOP(index, count) {
    const Dtype label = labels[index];
    const int rival = rivals[index];
    Dtype* diff =
        scores_diff + index / plane * num_classes * plane + index % plane;
    for (int k = 0; k < num_classes; ++k) {
      const bool is_own = rival >= 0 && label == k;
      diff[k * plane] = is_own ? -scale : (rival == k ? scale : Dtype(0));
    }
  }
}

template <typename Dtype>
void MarginLossLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LossParameter& loss_param = this->layer_param_.loss_param();
  const int num_classes = bottom[0]->channels();
  CheckReportedLabel(
      this->layer_param_.name(), &report_, num_classes, loss_param);
  const int blocks = LossBlocks(rival_.count());
  MarginLossForward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<blocks, kLossThreads>>>(rival_.count(), num_classes,
          bottom[0]->count(2), this->layer_param_.margin_loss_param().margin(),
          IgnoreLabel<Dtype>(loss_param), bottom[0]->gpu_data(),
          bottom[1]->gpu_data(), rival_.mutable_gpu_data(),
          block_sums_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  FinishLoss<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<1, kLossThreads>>>(blocks, block_sums_.mutable_gpu_data(),
          FixedNormalizer(), bottom[1]->height(), bottom[1]->width(),
          bottom[1]->gpu_data(), top[0]->mutable_gpu_data(),
          normalizer_.mutable_gpu_data(), report_.get());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void MarginLossLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  CheckNoLabelGradient(this->layer_param_.name(), propagate_down);
  if (!propagate_down[0]) { return; }
  const int count = rival_.count();
  MarginLossBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<LossBlocks(count), kLossThreads>>>(count, bottom[0]->channels(),
          bottom[0]->count(2), bottom[1]->gpu_data(), rival_.gpu_data(),
          top[0]->gpu_diff(), normalizer_.gpu_data(),
          bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(MarginLossLayer);

}  // namespace caffe
