#include <algorithm>
#include <numeric>
#include <vector>

#include "labels.hpp"
#include "neighbourhood.hpp"
#include "parallel.hpp"
#include "similarity_loss_layer.hpp"

namespace caffe {

/// Calls visit(i, alike) for each valid pair of channel p in one image, where
/// i = y * width + x is the end that stores s.
template <typename Dtype, typename Visitor>
static void ForEachValidPair(const Dtype* label, const PairGrid& grid, int p,
    Dtype ignore_label, Visitor visit) {
  const PairOffset offset = grid.OffsetOf(p);
  const int begin = grid.BeginColumn(offset.dx);
  const int end = grid.EndColumn(offset.dx);
  for (int y = 0; y < grid.height - offset.dy; ++y) {
    for (int x = begin; x < end; ++x) {
      const int i = y * grid.width + x;
      const int j = i + offset.dy * grid.width + offset.dx;
      if (label[i] != ignore_label && label[j] != ignore_label) {
        visit(i, label[i] == label[j]);
      }
    }
  }
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  LossLayer<Dtype>::LayerSetUp(bottom, top);
  const SimilarityLossParameter& param =
      this->layer_param_.similarity_loss_param();
  CheckWindow(
      this->layer_param_.name(), "similarity_loss_param", param.window());
  CHECK(param.threshold() >= 0 && param.threshold() <= 1)
      << "Layer " << this->layer_param_.name() << ": threshold is "
      << param.threshold() << ", expected a similarity in [0, 1]. Set "
      << "similarity_loss_param { threshold: 4.54e-05 } for the paper's e^-10.";
  const LossParameter& loss_param = this->layer_param_.loss_param();
  CHECK(loss_param.normalization() == LossParameter_NormalizationMode_VALID &&
        !loss_param.has_normalize())
      << "Layer " << this->layer_param_.name() << ": loss_param sets "
      << "normalization or normalize, but the loss is always the mean over the "
      << "valid pairs. Remove it, and scale the loss by loss_weight.";
}

template <typename Dtype>
PairGrid SimilarityLossLayer<Dtype>::GridOf(
    const Blob<Dtype>& similarities) const {
  return PairGrid(similarities.height(), similarities.width(),
      this->layer_param_.similarity_loss_param().window());
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckLabelShape(
      this->layer_param_.name(), "similarities", *bottom[0], *bottom[1]);
  CheckPairChannels(this->layer_param_.name(), "similarity_loss_param",
      this->layer_param_.similarity_loss_param().window(),
      bottom[0]->channels());
  LossLayer<Dtype>::Reshape(bottom, top);
  normalizer_.Reshape(vector<int>(1, 1));
  block_sums_.Reshape(LossBlocks(bottom[0]->count()));
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const LossParameter& loss_param = this->layer_param_.loss_param();
  CheckLabels(
      this->layer_param_.name(), *bottom[1], kAnyNumberOfClasses, loss_param);
  const Dtype ignore_label = IgnoreLabel<Dtype>(loss_param);
  const Dtype h = this->layer_param_.similarity_loss_param().threshold();
  const Dtype* similarities = bottom[0]->cpu_data();
  const Dtype* labels = bottom[1]->cpu_data();
  const PairGrid grid = GridOf(*bottom[0]);
  const int num_planes = bottom[0]->num() * grid.pairs();
  const int plane_size = bottom[0]->count(2);
  // One sum for each plane: the total does not depend on the thread count.
  vector<double> plane_loss(num_planes);
  vector<int> plane_valid(num_planes);
#pragma omp parallel for if (bottom[0]->count() > kMinParallelCount)
  for (int plane = 0; plane < num_planes; ++plane) {
    const Dtype* s = similarities + plane * plane_size;
    double loss = 0;
    int num_valid = 0;
    ForEachValidPair(labels + plane / grid.pairs() * plane_size, grid,
        plane % grid.pairs(), ignore_label, [&](int i, bool alike) {
          loss += alike ? -s[i] : std::max(s[i] - h, Dtype(0));  // Eq. (7)
          ++num_valid;
        });
    plane_loss[plane] = loss;
    plane_valid[plane] = num_valid;
  }
  const int num_valid =
      std::accumulate(plane_valid.begin(), plane_valid.end(), 0);
  normalizer_.mutable_cpu_data()[0] = std::max(1, num_valid);  // none: 0 / 1
  top[0]->mutable_cpu_data()[0] =
      std::accumulate(plane_loss.begin(), plane_loss.end(), 0.) /
      std::max(1, num_valid);
}

template <typename Dtype>
void SimilarityLossLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  CheckNoLabelGradient(this->layer_param_.name(), propagate_down);
  if (!propagate_down[0]) { return; }
  const Dtype ignore_label =
      IgnoreLabel<Dtype>(this->layer_param_.loss_param());
  const Dtype h = this->layer_param_.similarity_loss_param().threshold();
  const Dtype scale = top[0]->cpu_diff()[0] / normalizer_.cpu_data()[0];
  const Dtype* similarities = bottom[0]->cpu_data();
  const Dtype* labels = bottom[1]->cpu_data();
  Dtype* diff = bottom[0]->mutable_cpu_diff();
  const PairGrid grid = GridOf(*bottom[0]);
  const int num_planes = bottom[0]->num() * grid.pairs();
  const int plane_size = bottom[0]->count(2);
#pragma omp parallel for if (bottom[0]->count() > kMinParallelCount)
  for (int plane = 0; plane < num_planes; ++plane) {
    const Dtype* s = similarities + plane * plane_size;
    Dtype* s_diff = diff + plane * plane_size;
    std::fill(s_diff, s_diff + plane_size, Dtype(0));
    ForEachValidPair(labels + plane / grid.pairs() * plane_size, grid,
        plane % grid.pairs(), ignore_label, [&](int i, bool alike) {
          s_diff[i] = alike ? -scale : (s[i] > h ? scale : Dtype(0));
        });
  }
}

#ifdef CPU_ONLY
STUB_GPU(SimilarityLossLayer);
#endif

INSTANTIATE_CLASS(SimilarityLossLayer);
REGISTER_LAYER_CLASS(SimilarityLoss);

}  // namespace caffe
