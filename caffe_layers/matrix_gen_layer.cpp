#include <algorithm>
#include <cmath>
#include <vector>

#include "matrix_gen_layer.hpp"

namespace caffe {

template <typename Dtype>
void MatrixGenLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const MatrixGenParameter& param = this->layer_param_.matrix_gen_param();
  const int num_classes = param.num_classes();
  CHECK_GE(num_classes, 1)
      << "Layer " << this->layer_param_.name() << ": num_classes is "
      << num_classes << ", expected at least 1. Set matrix_gen_param { "
      << "num_classes: 21 } to the channels of the scores.";
  CHECK(param.diagonal() > 0 && std::isfinite(param.diagonal()))
      << "Layer " << this->layer_param_.name() << ": diagonal is "
      << param.diagonal() << ", expected a number above 0 (from R = 0 no "
      << "gradient leads away). Set matrix_gen_param { diagonal: 1 }.";
  const vector<int> shape(2, num_classes);
  if (this->blobs_.empty()) {
    this->blobs_.emplace_back(new Blob<Dtype>(shape));
    Dtype* R = this->blobs_[0]->mutable_cpu_data();  // zeros
    for (int k = 0; k < num_classes; ++k) {
      R[k * num_classes + k] = param.diagonal();
    }
  }
  CHECK(this->blobs_.size() == 1 && this->blobs_[0]->shape() == shape)
      << "Layer " << this->layer_param_.name() << ": got "
      << this->blobs_.size() << " parameter blobs, the first "
      << this->blobs_[0]->shape_string() << ", expected one of "
      << Blob<Dtype>(shape).shape_string()
      << ". Set num_classes to the classes that the weights were made for.";
  this->param_propagate_down_.resize(1, true);
}

template <typename Dtype>
void MatrixGenLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  top[0]->ReshapeLike(*this->blobs_[0]);
}

template <typename Dtype>
void MatrixGenLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int K = this->blobs_[0]->shape(0);
  Dtype* R = this->blobs_[0]->mutable_cpu_data();
  Dtype* C = top[0]->mutable_cpu_data();
  for (int i = 0; i < K; ++i) {
    std::fill(R + i * K + i + 1, R + (i + 1) * K, Dtype(0));
    for (int j = 0; j <= i; ++j) {
      Dtype sum = 0;
      for (int k = 0; k <= j; ++k) { sum += R[i * K + k] * R[j * K + k]; }
      C[i * K + j] = C[j * K + i] = sum;  // Eq. (3)
    }
  }
}

template <typename Dtype>
void MatrixGenLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!this->param_propagate_down_[0]) { return; }
  const int K = this->blobs_[0]->shape(0);
  const Dtype* R = this->blobs_[0]->cpu_data();
  const Dtype* G = top[0]->cpu_diff();
  Dtype* R_diff = this->blobs_[0]->mutable_cpu_diff();
  for (int i = 0; i < K; ++i) {
    for (int j = 0; j <= i; ++j) {
      Dtype sum = 0;
      for (int k = j; k < K; ++k) {  // R is 0 above its diagonal
        sum += (G[i * K + k] + G[k * K + i]) * R[k * K + j];
      }
      R_diff[i * K + j] += sum;  // added, so that iter_size works
    }
    std::fill(R_diff + i * K + i + 1, R_diff + (i + 1) * K, Dtype(0));
  }
}

#ifdef CPU_ONLY
STUB_GPU(MatrixGenLayer);
#endif

INSTANTIATE_CLASS(MatrixGenLayer);
REGISTER_LAYER_CLASS(MatrixGen);

}  // namespace caffe
