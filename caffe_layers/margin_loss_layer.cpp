#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "labels.hpp"
#include "margin_loss_layer.hpp"
#include "parallel.hpp"

namespace caffe {

// Pixels that one thread handles at a time. Their running maxima stay in L1.
const int kBlock = 512;

template <typename Dtype>
void MarginLossLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  const float margin = this->layer_param_.margin_loss_param().margin();
  CHECK(margin > 0 && std::isfinite(margin))
      << "Layer " << this->layer_param_.name() << ": margin is " << margin
      << ", expected a number above 0. Set margin_loss_param { margin: 0.5 }.";
}

template <typename Dtype>
void MarginLossLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckLabelShape(this->layer_param_.name(), "scores", *bottom[0], *bottom[1]);
  CHECK_GE(bottom[0]->channels(), 2)
      << "Layer " << this->layer_param_.name() << ": the scores have "
      << bottom[0]->channels() << " channel, expected at least 2. Give one "
      << "channel to each class, the background included.";
  LossLayer<Dtype>::Reshape(bottom, top);
  rival_.Reshape(bottom[1]->shape());
  normalizer_.Reshape(vector<int>(1, 1));
  block_sums_.Reshape(LossBlocks(rival_.count()));
}

template <typename Dtype>
void MarginLossLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LossParameter& loss_param = this->layer_param_.loss_param();
  const Dtype margin = this->layer_param_.margin_loss_param().margin();
  const int num_classes = bottom[0]->channels();
  const int num_pixels = bottom[0]->count(2);  // of one image
  CheckLabels(this->layer_param_.name(), *bottom[1], num_classes, loss_param);
  const Dtype ignore_label = IgnoreLabel<Dtype>(loss_param);
  const Dtype* scores = bottom[0]->cpu_data();
  const Dtype* labels = bottom[1]->cpu_data();
  int* rivals = rival_.mutable_cpu_data();
  const int blocks_per_image = (num_pixels + kBlock - 1) / kBlock;
  const int num_blocks = bottom[0]->num() * blocks_per_image;
  // One sum for each block: the total does not depend on the thread count.
  vector<double> block_loss(num_blocks);
  vector<int> block_valid(num_blocks);
#pragma omp parallel for if (bottom[0]->count() > kMinParallelCount)
  for (int b = 0; b < num_blocks; ++b) {
    const int n = b / blocks_per_image;
    const int begin = b % blocks_per_image * kBlock;
    const int size = std::min(kBlock, num_pixels - begin);
    const Dtype* score = scores + n * num_classes * num_pixels + begin;
    const Dtype* label = labels + n * num_pixels + begin;
    int* rival = rivals + n * num_pixels + begin;
    Dtype best[kBlock];
    std::fill(best, best + size, -std::numeric_limits<Dtype>::infinity());
    std::fill(rival, rival + size, -1);
    for (int k = 0; k < num_classes; ++k) {
      const Dtype* y = score + k * num_pixels;
      for (int i = 0; i < size; ++i) {
        const bool better = (y[i] > best[i]) & (label[i] != k);
        best[i] = better ? y[i] : best[i];
        rival[i] = better ? k : rival[i];
      }
    }
    double loss = 0;
    int num_valid = 0;
    for (int i = 0; i < size; ++i) {
      if (label[i] == ignore_label) {
        rival[i] = -1;
        continue;
      }
      ++num_valid;
      const int l = label[i];
      const Dtype L =
          margin - (score[l * num_pixels + i] - best[i]);  // Eq. (6)
      if (L <= 0) {
        rival[i] = -1;
      } else {
        loss += L;  // NaN scores end here, in a loss of NaN
      }
    }
    block_loss[b] = loss;
    block_valid[b] = num_valid;
  }
  int normalizer = FixedNormalizer();
  if (normalizer == 0) {
    normalizer = std::accumulate(block_valid.begin(), block_valid.end(), 0);
  }
  normalizer = std::max(1, normalizer);  // all ignored: the loss is 0 / 1
  normalizer_.mutable_cpu_data()[0] = normalizer;
  top[0]->mutable_cpu_data()[0] =
      std::accumulate(block_loss.begin(), block_loss.end(), 0.) / normalizer;
}

template <typename Dtype>
void MarginLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  CheckNoLabelGradient(this->layer_param_.name(), propagate_down);
  if (!propagate_down[0]) { return; }
  const int num_classes = bottom[0]->channels();
  const int num_pixels = bottom[0]->count(2);
  const Dtype* labels = bottom[1]->cpu_data();
  const int* rivals = rival_.cpu_data();
  const Dtype scale = top[0]->cpu_diff()[0] / normalizer_.cpu_data()[0];
  Dtype* scores_diff = bottom[0]->mutable_cpu_diff();
  const int blocks_per_image = (num_pixels + kBlock - 1) / kBlock;
  const int num_blocks = bottom[0]->num() * blocks_per_image;
#pragma omp parallel for if (bottom[0]->count() > kMinParallelCount)
  for (int b = 0; b < num_blocks; ++b) {
    const int n = b / blocks_per_image;
    const int begin = b % blocks_per_image * kBlock;
    const int size = std::min(kBlock, num_pixels - begin);
    const Dtype* label = labels + n * num_pixels + begin;
    const int* rival = rivals + n * num_pixels + begin;
    for (int k = 0; k < num_classes; ++k) {
      Dtype* diff = scores_diff + (n * num_classes + k) * num_pixels + begin;
      for (int i = 0; i < size; ++i) {
        const bool own = (rival[i] >= 0) & (label[i] == k);
        diff[i] = own ? -scale : (rival[i] == k ? scale : Dtype(0));
      }
    }
  }
}

template <typename Dtype>
int MarginLossLayer<Dtype>::FixedNormalizer() const {
  const LossParameter& param = this->layer_param_.loss_param();
  LossParameter_NormalizationMode mode = param.normalization();
  if (!param.has_normalization() && param.has_normalize()) {
    mode = param.normalize() ? LossParameter_NormalizationMode_VALID
                             : LossParameter_NormalizationMode_BATCH_SIZE;
  }
  switch (mode) {
    case LossParameter_NormalizationMode_FULL:
      return rival_.count();
    case LossParameter_NormalizationMode_BATCH_SIZE:
      return rival_.num();
    case LossParameter_NormalizationMode_NONE:
      return 1;
    case LossParameter_NormalizationMode_VALID:
      break;
  }
  return 0;
}

#ifdef CPU_ONLY
STUB_GPU(MarginLossLayer);
#endif

INSTANTIATE_CLASS(MarginLossLayer);
REGISTER_LAYER_CLASS(MarginLoss);

}  // namespace caffe
