#include <algorithm>
#include <vector>

#include "neighbourhood.cuh"
#include "neighbourhood.hpp"
#include "similarity_layer.hpp"

namespace caffe {

// A thread for each pair: neighbouring threads read neighbouring features and
// write neighbouring similarities. Each feature is read 2 P times, nearly
// always from the caches (344 KB at 64 x 64 pixels, M = 21); memory sees the
// features and the similarities once.
template <typename Dtype>
__global__ void SimilarityForward(const int count, const int channels,
    const PairGrid grid, const Dtype* features, Dtype* similarities) {
  const int plane = grid.height * grid.width;
  CUDA_KERNEL_LOOP(index, count) {
    const PixelPair pair = grid.PairOf(index);
    Dtype similarity = 0;
    if (grid.Contains(pair.lower_y, pair.lower_x)) {
      const Dtype* p = features + pair.n * channels * plane;
      const int i = pair.y * grid.width + pair.x;
      const int j = pair.lower_y * grid.width + pair.lower_x;
      Dtype distance = 0;
      for (int m = 0; m < channels; ++m) {
        const Dtype difference = p[m * plane + i] - p[m * plane + j];
        distance += difference * difference;
      }
      similarity = exp(-distance);  // Eq. (5)
    }
    similarities[index] = similarity;
  }
}

// A thread for each pixel and kThreadChannels channels gathers from all
// neighbours, so nothing is added up in memory and results are repeatable. g
// and s are read twice, for both ends of a pair, and again for each chunk, from
// the caches.
template <typename Dtype>
__global__ void SimilarityBackward(const int count, const int channels,
    const PairGrid grid, const Dtype* features, const Dtype* similarities,
    const Dtype* similarities_diff, Dtype* features_diff) {
  const int plane = grid.height * grid.width;
  const int groups = ChannelGroups(channels);
  CUDA_KERNEL_LOOP(index, count) {
    const int x = index % grid.width, y = index / grid.width % grid.height;
    const int n = index / plane / groups;
    const int first = index / plane % groups * kThreadChannels;
    const int size = min(kThreadChannels, channels - first);
    const int i = (n * channels + first) * plane + y * grid.width + x;
    Dtype own[kThreadChannels], sum[kThreadChannels];
#pragma unroll
    for (int m = 0; m < kThreadChannels; ++m) {
      own[m] = m < size ? features[i + m * plane] : Dtype(0);
      sum[m] = 0;
    }
    ForEachNeighbour(y, x, grid, [&](int entry, int y_j, int x_j) {
      const int pair = n * grid.pairs() * plane + entry;
      const Dtype weight = similarities_diff[pair] * similarities[pair];
      const int j = (n * channels + first) * plane + y_j * grid.width + x_j;
#pragma unroll
      for (int m = 0; m < kThreadChannels; ++m) {
        if (m < size) { sum[m] += weight * (own[m] - features[j + m * plane]); }
      }
    });
#pragma unroll
    for (int m = 0; m < kThreadChannels; ++m) {
      if (m < size) { features_diff[i + m * plane] = -2 * sum[m]; }  // Eq. (5a)
    }
  }
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Forward_gpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int count = top[0]->count();
  SimilarityForward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(count), kPixelThreads>>>(count, bottom[0]->channels(),
          SizesFor(*bottom[0]), bottom[0]->gpu_data(),
          top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) { return; }
  const int channels = bottom[0]->channels();
  const int count =
      bottom[0]->num() * ChannelGroups(channels) * bottom[0]->count(2);
  SimilarityBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(count), kPixelThreads>>>(count, channels,
          SizesFor(*bottom[0]), bottom[0]->gpu_data(), top[0]->gpu_data(),
          top[0]->gpu_diff(), bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(SimilarityLayer);

}  // namespace caffe
