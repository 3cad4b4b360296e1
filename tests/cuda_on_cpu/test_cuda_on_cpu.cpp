// What the layers compute on the (emulated) GPU is what they compute on the
// CPU, whatever the order of blocks and threads, in memory that starts as NaN.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/layers/softmax_layer.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/util/rng.hpp"
#include "cuda_on_cpu.hpp"
#include "google/protobuf/text_format.h"
#include "neighbourhood.hpp"

namespace caffe {

REGISTER_LAYER_CLASS(
    Softmax);  // for SoftmaxWithLoss; layer_factory.cpp is not here

template <typename Dtype>
class CudaOnCpuTest : public ::testing::Test {
 protected:
  typedef vector<Dtype> Values;

  CudaOnCpuTest() {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    Caffe::set_random_seed(1701);
  }
  ~CudaOnCpuTest() override { cuda_on_cpu::SetPoison(false); }

  Values Random(int count, Dtype min, Dtype max) {
    Values values(count);
    for (Dtype& value : values) {
      value = min + (max - min) * (caffe_rng_rand() % 1000003) / 1000003;
    }
    return values;
  }
  void AddBottom(const vector<int>& shape, Dtype min, Dtype max) {
    bottom_shapes_.push_back(shape);
    bottoms_.push_back(Random(Blob<Dtype>(shape).count(), min, max));
    propagate_down_.push_back(true);
  }
  void AddLabels(int num, int height, int width, int classes) {
    AddBottom({num, 1, height, width}, 0, 0);
    for (int i = 0; i < bottoms_.back().size(); ++i) {
      bottoms_.back()[i] = i % 7 == 3 ? 255 : caffe_rng_rand() % classes;
    }
    propagate_down_.back() = false;
  }

  /// Forward and Backward of a new layer on new blobs: the top, the gradients
  /// of the bottoms, and the parameters with their gradients.
  vector<Values> Run(const string& text, Caffe::Brew mode) {
    Caffe::set_mode(mode);
    LayerParameter param;
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &param));
    vector<Blob<Dtype>> bottom(bottoms_.size());
    vector<Blob<Dtype>*> bottom_vec;
    for (int i = 0; i < bottom.size(); ++i) {
      bottom[i].Reshape(bottom_shapes_[i]);
      std::copy(
          bottoms_[i].begin(), bottoms_[i].end(), bottom[i].mutable_cpu_data());
      bottom_vec.push_back(&bottom[i]);
    }
    Blob<Dtype> top;
    const vector<Blob<Dtype>*> top_vec{&top};
    const shared_ptr<Layer<Dtype>> layer =
        LayerRegistry<Dtype>::CreateLayer(param);
    layer->SetUp(bottom_vec, top_vec);
    for (const shared_ptr<Blob<Dtype>>& blob : layer->blobs()) {
      Fill(blob->count(), 3, blob->mutable_cpu_data());
      caffe_set(blob->count(), Dtype(0.5), blob->mutable_cpu_diff());
    }
    layer->Forward(bottom_vec, top_vec);
    Fill(top.count(), 5, top.mutable_cpu_diff());
    layer->Backward(top_vec, propagate_down_, bottom_vec);

    vector<Values> results{Copy(top.cpu_data(), top.count())};
    for (int i = 0; i < bottom.size(); ++i) {
      if (propagate_down_[i]) {
        results.push_back(Copy(bottom[i].cpu_diff(), bottom[i].count()));
      }
    }
    for (const shared_ptr<Blob<Dtype>>& blob : layer->blobs()) {
      results.push_back(Copy(blob->cpu_data(), blob->count()));
      results.push_back(Copy(blob->cpu_diff(), blob->count()));
    }
    return results;
  }

  void ExpectGpuIsCpu(const string& text) {
    const vector<Values> expected = Run(text, Caffe::CPU);
    cuda_on_cpu::SetPoison(true);
    cuda_on_cpu::SetSeed(1);
    const vector<Values> found = Run(text, Caffe::GPU);
    cuda_on_cpu::SetSeed(2);
    EXPECT_TRUE(found == Run(text, Caffe::GPU))
        << "Results depend on the order of blocks and threads: " << text;
    cuda_on_cpu::SetPoison(false);
    ASSERT_EQ(expected.size(), found.size());
    const double tolerance = sizeof(Dtype) == sizeof(float) ? 2e-5 : 1e-10;
    for (int r = 0; r < expected.size(); ++r) {
      ASSERT_EQ(expected[r].size(), found[r].size());
      double largest = 1, error = 0;
      for (int i = 0; i < expected[r].size(); ++i) {
        largest = std::max<double>(largest, std::abs(expected[r][i]));
        const double difference = std::abs(expected[r][i] - found[r][i]);
        if (!(difference <= error)) { error = difference; }  // NaN as well
      }
      EXPECT_TRUE(error <= tolerance * largest)
          << "Result " << r << " is off by " << error << " of " << largest
          << ": " << text;
    }
    bottoms_.clear();
    bottom_shapes_.clear();
    propagate_down_.clear();
  }

  /// Values in [-1, 1] that are the same in every run.
  static void Fill(int count, int seed, Dtype* values) {
    for (int i = 0; i < count; ++i) { values[i] = std::sin(seed * i + 1.); }
  }
  static Values Copy(const Dtype* values, int count) {
    return Values(values, values + count);
  }

  vector<Values> bottoms_;
  vector<vector<int>> bottom_shapes_;
  vector<bool> propagate_down_;
};

TYPED_TEST_CASE(CudaOnCpuTest, TestDtypes);

// N, channels, H, W, window: those of the CPU's tests, and some that need many
// blocks, have an odd number of columns, or are smaller than the window.
const int kGrids[][5] = {{1, 1, 1, 1, 3}, {1, 3, 1, 1, 23}, {2, 2, 3, 4, 3},
    {1, 2, 4, 3, 9}, {1, 3, 2, 5, 3}, {1, 5, 7, 1, 7}, {1, 4, 1, 9, 7},
    {2, 7, 21, 35, 11}, {1, 21, 24, 23, 23}, {1, 40, 2, 6, 3}};

TYPED_TEST(CudaOnCpuTest, Similarity) {
  for (const int* grid : kGrids) {
    this->AddBottom({grid[0], grid[1], grid[2], grid[3]}, 0, 1);
    this->ExpectGpuIsCpu("type: 'Similarity' similarity_param { window: " +
                         std::to_string(grid[4]) + " }");
  }
}

TYPED_TEST(CudaOnCpuTest, GMF) {
  typedef TypeParam Dtype;
  for (const int* grid : kGrids) {
    const int K = grid[1];
    for (const bool is_odd : {false, true}) {
      this->AddBottom({grid[0], K, grid[2], grid[3]}, 0, 1);
      this->AddBottom({grid[0], K, grid[2], grid[3]}, 0, 1);
      this->AddBottom({grid[0], NumPairs(grid[4]), grid[2], grid[3]}, 0, 1);
      this->AddBottom({K, K}, 0, 0);
      // C = R R' of full rank, or with many eigenvalues of 0
      const int rank = is_odd ? 2 : K;
      const vector<Dtype> R = this->Random(rank * K, -1, 1);
      vector<Dtype>& C = this->bottoms_.back();
      for (int i = 0; i < K * K; ++i) {
        C[i] = std::inner_product(R.begin() + i / K * rank,
            R.begin() + (i / K + 1) * rank, R.begin() + i % K * rank, Dtype(0));
      }
      this->ExpectGpuIsCpu(string("type: '") + (is_odd ? "GMFOdd" : "GMFEven") +
                           "' gmf_param { window: " + std::to_string(grid[4]) +
                           " }");
    }
  }
}

TYPED_TEST(CudaOnCpuTest, MatrixGen) {
  for (const int classes : {1, 2, 5, 21, 33}) {
    this->ExpectGpuIsCpu("type: 'MatrixGen' matrix_gen_param { num_classes: " +
                         std::to_string(classes) + " }");
  }
}

TYPED_TEST(CudaOnCpuTest, MarginLoss) {
  const int sizes[][4] = {
      {1, 2, 1, 1}, {1, 3, 1, 4}, {3, 5, 1, 1}, {2, 4, 7, 1}, {2, 21, 37, 41}};
  for (const int* size : sizes) {
    for (const char* mode : {"FULL", "VALID", "BATCH_SIZE", "NONE"}) {
      this->AddBottom({size[0], size[1], size[2], size[3]}, 0, 1);
      this->AddLabels(size[0], size[2], size[3], size[1]);
      this->ExpectGpuIsCpu(
          string("type: 'MarginLoss' loss_param { ignore_label: 255 "
                 "normalization: ") +
          mode + " }");
    }
  }
}

TYPED_TEST(CudaOnCpuTest, SimilarityLoss) {
  for (const int* grid : kGrids) {
    this->AddBottom({grid[0], NumPairs(grid[4]), grid[2], grid[3]}, 0, 1);
    this->AddLabels(grid[0], grid[2], grid[3], 3);
    this->ExpectGpuIsCpu(
        "type: 'SimilarityLoss' loss_param { ignore_label: 255 } "
        "similarity_loss_param { threshold: 0.25 window: " +
        std::to_string(grid[4]) + " }");
  }
}

TYPED_TEST(CudaOnCpuTest, Interp) {
  const struct {
    vector<int> shape;
    const char* param;
  } cases[] = {{{1, 2, 3, 4}, "zoom_factor: 2"},
      {{2, 3, 1, 1}, "zoom_factor: 8"}, {{2, 3, 5, 7}, "zoom_factor: 8"},
      {{2, 1, 9, 17}, "shrink_factor: 4"}, {{1, 2, 5, 6}, "height: 1 width: 1"},
      {{1, 2, 5, 6}, "height: 5 width: 6"},
      {{1, 1, 1, 6}, "height: 4 width: 3"},
      {{2, 2, 7, 5}, "height: 4 width: 13"}};
  for (const auto& c : cases) {
    this->AddBottom(c.shape, -1, 1);
    this->ExpectGpuIsCpu(
        string("type: 'Interp' interp_param { ") + c.param + " }");
  }
}

TYPED_TEST(CudaOnCpuTest, TheLossOfAWrongLabelIsNotANumber) {
  this->AddBottom({1, 3, 2, 2}, 0, 1);
  this->AddLabels(1, 2, 2, 3);
  this->bottoms_[1] = {0, 3, 1, 2};
  EXPECT_NE(0, std::isnan(this->Run("type: 'MarginLoss'", Caffe::GPU)[0][0]));
}

}  // namespace caffe
