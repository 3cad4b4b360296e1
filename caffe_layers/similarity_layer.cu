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
    const int height, const int width, const int offsets, const Dtype* features,
    Dtype* similarities) {
  const int plane = height * width, across = 2 * offsets;
  CUDA_KERNEL_LOOP(index, count) {
    const int x = index % width, y = index / width % height;
    const int row = index / plane / across;  // of pairs: n * offsets + dy / 2
    const int dx = 2 * (index / plane % across) - across + 1;
    const int dy = 2 * (row % offsets) + 1;
    Dtype similarity = 0;
    if (y + dy < height && x + dx >= 0 && x + dx < width) {
      const Dtype* p = features + row / offsets * channels * plane;
      const int i = y * width + x, j = i + dy * width + dx;
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

// A thread for each pixel and kChunk channels gathers from all neighbours, so
// nothing is added up in memory and results are repeatable. g and s are read
// twice, for both ends of a pair, and again for each chunk, from the caches.
template <typename Dtype>
__global__ void SimilarityBackward(const int count, const int channels,
    const int height, const int width, const int offsets, const Dtype* features,
    const Dtype* similarities, const Dtype* similarities_diff,
    Dtype* features_diff) {
  const int plane = height * width, pairs = 2 * offsets * offsets;
  const int chunks = (channels + kChunk - 1) / kChunk;
  CUDA_KERNEL_LOOP(index, count) {
    const int x = index % width, y = index / width % height;
    const int n = index / plane / chunks;
    const int first = index / plane % chunks * kChunk;
    const int size = min(kChunk, channels - first);
    const int i = (n * channels + first) * plane + y * width + x;
    Dtype own[kChunk], sum[kChunk];
#pragma unroll
    for (int m = 0; m < kChunk; ++m) {
      own[m] = m < size ? features[i + m * plane] : Dtype(0);
      sum[m] = 0;
    }
    ForEachNeighbour(
        y, x, height, width, offsets, [&](int entry, int y_j, int x_j) {
          const int pair = n * pairs * plane + entry;
          const Dtype weight = similarities_diff[pair] * similarities[pair];
          const int j = (n * channels + first) * plane + y_j * width + x_j;
#pragma unroll
          for (int m = 0; m < kChunk; ++m) {
            if (m < size) {
              sum[m] += weight * (own[m] - features[j + m * plane]);
            }
          }
        });
#pragma unroll
    for (int m = 0; m < kChunk; ++m) {
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
          bottom[0]->height(), bottom[0]->width(), OddOffsets(window_),
          bottom[0]->gpu_data(), top[0]->mutable_gpu_data());
  CUDA_POST_KERNEL_CHECK;
}

template <typename Dtype>
void SimilarityLayer<Dtype>::Backward_gpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) { return; }
  const int channels = bottom[0]->channels();
  const int count = bottom[0]->num() * Chunks(channels) * bottom[0]->count(2);
  SimilarityBackward<Dtype>  // NOLINT_NEXT_LINE(whitespace/operators)
      <<<PixelBlocks(count), kPixelThreads>>>(count, channels,
          bottom[0]->height(), bottom[0]->width(), OddOffsets(window_),
          bottom[0]->gpu_data(), top[0]->gpu_data(), top[0]->gpu_diff(),
          bottom[0]->mutable_gpu_diff());
  CUDA_POST_KERNEL_CHECK;
}

INSTANTIATE_LAYER_GPU_FUNCS(SimilarityLayer);

}  // namespace caffe
