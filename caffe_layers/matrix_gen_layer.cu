#include <algorithm>
#include <vector>

#include "matrix_gen_layer.hpp"

namespace caffe {

// A thread for each element of C. K x K is tiny: the launch takes longer than
// the work, so all is read straight from memory.
template <typename Dtype>
__global__ void MatrixGenForward(
    const int count, const int classes, Dtype* R, Dtype* C) {
  CUDA_KERNEL_LOOP(index, count) {
    const int i = index / classes, j = index % classes;
    if (i < j) { R[index] = 0; }  // which no thread reads
    Dtype sum = 0;
    for (int k = 0; k <= min(i, j); ++k) {
      sum += R[i * classes + k] * R[j * classes + k];
    }
    C[index] = sum;  // Eq. (3)
  }
}

template <typename Dtype>
__global__ void MatrixGenBackward(const int count, const int classes,
    const Dtype* R, const Dtype* G, Dtype* R_diff) {
  CUDA_KERNEL_LOOP(index, count) {
    const int i = index / classes, j = index % classes;
    Dtype sum = 0;
    for (int k = j; k < classes; ++k) {  // R is 0 above its diagonal
      sum += (G[i * classes + k] + G[k * classes + i]) * R[k * classes + j];
    }
    // Added, so that iter_size works.
    R_diff[index] = i < j ? Dtype(0) : R_diff[index] + sum;
  }
}

template <typename Dtype>
void MatrixGenLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = top[0]->count();
  MatrixGenForward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count,
          top[0]->shape(0), this->blobs_[0]->mutable_gpu_data(),
          top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void MatrixGenLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!this->param_propagate_down_[0]) { return; }
  const int count = top[0]->count();
  MatrixGenBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count,
          top[0]->shape(0), this->blobs_[0]->gpu_data(), top[0]->gpu_diff(),
          this->blobs_[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(MatrixGenLayer);

}  // namespace caffe
