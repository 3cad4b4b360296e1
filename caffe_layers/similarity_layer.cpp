#include <vector>

#include "neighbourhood.hpp"
#include "similarity_kernels.hpp"
#include "similarity_layer.hpp"

namespace caffe {

template <typename Dtype>
void SimilarityLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const SimilarityParameter& param = this->layer_param_.similarity_param();
  CheckWindow(this->layer_param_.name(), "similarity_param", param.window());
  window_ = param.window();
}

template <typename Dtype>
similarity::Sizes SimilarityLayer<Dtype>::SizesFor(
    const Blob<Dtype>& features) const {
  return similarity::Sizes(features.num(), features.channels(),
      features.height(), features.width(), window_);
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Blob<Dtype>& features = *bottom[0];
  CHECK_EQ(features.num_axes(), 4)
      << "Layer " << this->layer_param_.name() << ": the features have shape "
      << features.shape_string() << ", expected N x M x H x W.";
  const similarity::Sizes sizes = SizesFor(features);
  top[0]->Reshape(sizes.num, sizes.pairs(), sizes.height, sizes.width);
  padded_.Reshape(sizes.num, sizes.height, sizes.channels, sizes.stride);
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  similarity::Forward<Dtype>{SizesFor(*bottom[0]), bottom[0]->cpu_data(),
      padded_.mutable_cpu_data(), top[0]->mutable_cpu_data()}
      .Run();
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) { return; }
  similarity::Backward<Dtype>{SizesFor(*bottom[0]), padded_.cpu_data(),
      top[0]->cpu_data(), top[0]->cpu_diff(), bottom[0]->mutable_cpu_diff()}
      .Run();
}

#ifdef CPU_ONLY
STUB_GPU(SimilarityLayer);
#endif

INSTANTIATE_CLASS(SimilarityLayer);
REGISTER_LAYER_CLASS(Similarity);

}  // namespace caffe
