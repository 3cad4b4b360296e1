#ifndef TEST_LAYER_PROPERTIES_HPP_
#define TEST_LAYER_PROPERTIES_HPP_

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"

// What holds for every layer, whatever it computes.

namespace caffe {

/// Sets the layer up, runs Forward, and makes the top its own gradient.
template <typename Dtype>
void SetUpAndForward(Layer<Dtype>* layer, const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top) {
  layer->SetUp(bottom, top);
  layer->Forward(bottom, top);
  const Dtype* const data = top[0]->cpu_data();
  std::copy(data, data + top[0]->count(), top[0]->mutable_cpu_diff());
}

/// Expects the same bits for any number of threads. The gradients compared are
/// those of the first `num_gradients` bottoms.
template <typename LayerType, typename Dtype>
void ExpectSameForAnyNumberOfThreads(const LayerParameter& param,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top,
    int num_gradients) {
  vector<bool> propagate_down(bottom.size(), false);
  std::fill_n(propagate_down.begin(), num_gradients, true);
  const int threads = omp_get_max_threads();
  vector<vector<Dtype>> expected;
  for (const int count : {1, 2, 3, 5}) {
    omp_set_num_threads(count);
    LayerType layer(param);
    SetUpAndForward<Dtype>(&layer, bottom, top);
    layer.Backward(top, propagate_down, bottom);
    const Dtype* const data = top[0]->cpu_data();
    vector<vector<Dtype>> results{{data, data + top[0]->count()}};
    for (int i = 0; i < num_gradients; ++i) {
      const Dtype* const diff = bottom[i]->cpu_diff();
      results.emplace_back(diff, diff + bottom[i]->count());
    }
    if (expected.empty()) { expected = results; }
    EXPECT_TRUE(expected == results) << count << " threads";
  }
  omp_set_num_threads(threads);
}

/// Expects Backward to write the gradient that is wanted and no other, for none
/// and for each of the first `num_gradients` bottoms.
template <typename Dtype>
void ExpectUnwantedGradientsAreLeftAlone(Layer<Dtype>* layer,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top,
    int num_gradients) {
  const Dtype kUntouched = -7;
  SetUpAndForward(layer, bottom, top);
  for (int wanted = -1; wanted < num_gradients; ++wanted) {
    vector<bool> propagate_down(bottom.size(), false);
    if (wanted >= 0) { propagate_down[wanted] = true; }
    for (Blob<Dtype>* blob : bottom) {
      std::fill_n(blob->mutable_cpu_diff(), blob->count(), kUntouched);
    }
    layer->Backward(top, propagate_down, bottom);
    for (int i = 0; i < bottom.size(); ++i) {
      const Dtype* const diff = bottom[i]->cpu_diff();
      EXPECT_EQ(i == wanted ? 0 : bottom[i]->count(),
          std::count(diff, diff + bottom[i]->count(), kUntouched))
          << "bottom " << i << ", wanted " << wanted;
    }
  }
}

}  // namespace caffe

#endif  // TEST_LAYER_PROPERTIES_HPP_
