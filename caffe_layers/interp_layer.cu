#include <algorithm>
#include <vector>

#include "caffe/util/math_functions.hpp"

#include "interp_layer.hpp"

namespace caffe {

// A thread for each pixel of the top makes it in all planes (N C of them):
// where it lies is worked out once. Neighbouring threads write neighbouring
// pixels; what they read, a 64th of that for zoom 8, comes from the caches.
template <typename Dtype>
__global__ void InterpForward(const int count, const int planes,
    const int top_width, const int height, const int width, const int* row_cell,
    const Dtype* row_fraction, const int* column_cell,
    const Dtype* column_fraction, const Dtype* bottom, Dtype* top) {
  CUDA_KERNEL_LOOP(index, count) {
    const int y = index / top_width, x = index % top_width;
    const int i = row_cell[y], j = column_cell[x];
    const Dtype f = row_fraction[y], g = column_fraction[x];
    const int above = i * width, below = min(i + 1, height - 1) * width;
    const int next = min(j + 1, width - 1);
    for (int plane = 0; plane < planes; ++plane) {
      const Dtype* b = bottom + plane * height * width;
      const Dtype upper = b[above + j] + g * (b[above + next] - b[above + j]);
      const Dtype lower = b[below + j] + g * (b[below + next] - b[below + j]);
      top[plane * count + index] = upper + f * (lower - upper);  // Eq. (b)
    }
  }
}

// The transpose of Eq. (b) along one axis: shape outer x T x inner becomes
// outer x B x inner. A thread for each result gathers from the cells before and
// after it, so results are repeatable. Rows come first: their threads read
// neighbouring pixels, and leave an eighth for zoom 8 to the columns, whose
// threads don't.
template <typename Dtype>
__global__ void InterpBackward(const int count, const int bottom_size,
    const int top_size, const int inner, const int* cell, const int* begin,
    const Dtype* fraction, const Dtype* top_diff, Dtype* bottom_diff) {
  CUDA_KERNEL_LOOP(index, count) {
    const int i = index / inner % bottom_size;
    const Dtype* g = top_diff + index / inner / bottom_size * top_size * inner +
                     index % inner;
    Dtype sum = 0;
    for (int t = begin[max(0, i - 1)]; t < begin[i + 1]; ++t) {
      const Dtype f = fraction[t];
      sum += (cell[t] == i ? 1 - f : f) * g[t * inner];
    }
    bottom_diff[index] = sum;
  }
}

template <typename Dtype>
void InterpLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  if (bottom[0]->shape() == top[0]->shape()) {
    caffe_copy(
        top[0]->count(), bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
    return;
  }
  const int count = top[0]->count(2);
  InterpForward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count,
          top[0]->count(0, 2), columns_.top_size, rows_.bottom_size,
          columns_.bottom_size, rows_.cell.gpu_data(),
          rows_.fraction.gpu_data(), columns_.cell.gpu_data(),
          columns_.fraction.gpu_data(), bottom[0]->gpu_data(),
          top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void InterpLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) { return; }
  if (bottom[0]->shape() == top[0]->shape()) {
    caffe_copy(
        top[0]->count(), top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
    return;
  }
  const int row_count = collected_rows_.count();
  InterpBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<CAFFE_GET_BLOCKS(row_count), CAFFE_CUDA_NUM_THREADS>>>(row_count,
          rows_.bottom_size, rows_.top_size, columns_.top_size,
          rows_.cell.gpu_data(), rows_.begin.gpu_data(),
          rows_.fraction.gpu_data(), top[0]->gpu_diff(),
          collected_rows_.mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
  const int count = bottom[0]->count();
  InterpBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<CAFFE_GET_BLOCKS(count), CAFFE_CUDA_NUM_THREADS>>>(count,
          columns_.bottom_size, columns_.top_size, 1, columns_.cell.gpu_data(),
          columns_.begin.gpu_data(), columns_.fraction.gpu_data(),
          collected_rows_.gpu_data(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(InterpLayer);

}  // namespace caffe
