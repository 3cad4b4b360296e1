#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "gtest/gtest.h"
#include "matrix_gen_layer.hpp"
#include "test_gradient_check.hpp"

namespace caffe {

template <typename TypeParam>
class MatrixGenLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  MatrixGenLayerTest() {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    top_vec_.push_back(&top_);
  }
  LayerParameter Param(int num_classes, float diagonal = 1) {
    LayerParameter param;
    param.set_name("compatibility");
    param.mutable_matrix_gen_param()->set_num_classes(num_classes);
    param.mutable_matrix_gen_param()->set_diagonal(diagonal);
    return param;
  }
  void SetFactor(MatrixGenLayer<Dtype>* layer, const vector<Dtype>& R) {
    ASSERT_EQ(R.size(), layer->blobs()[0]->count());
    std::copy(R.begin(), R.end(), layer->blobs()[0]->mutable_cpu_data());
  }
  void ExpectEqual(const vector<double>& expected, const Dtype* found) {
    for (int i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(expected[i], found[i]) << "at " << i;
    }
  }

  Blob<Dtype> top_;
  vector<Blob<Dtype>*> no_bottom_, top_vec_;
};

TYPED_TEST_CASE(MatrixGenLayerTest, TestDtypesAndDevices);

TYPED_TEST(MatrixGenLayerTest, TwoClassesByHand) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(2));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  this->SetFactor(&layer, {1, 0,  //
                              2, 3});
  layer.Forward(this->no_bottom_, this->top_vec_);
  this->ExpectEqual({1, 2,  //
                        2, 13},
      this->top_.cpu_data());
  const Dtype G[] = {1, 2,  // G + G' = 2 5
      3, 4};                //          5 8
  std::copy(G, G + 4, this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(), this->no_bottom_);
  this->ExpectEqual({12, 0,  // 2 + 10, not 15
                        21, 24},
      layer.blobs()[0]->cpu_diff());
}

TYPED_TEST(MatrixGenLayerTest, StartsAsTheDiagonalSquared) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(3, 0.5));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  EXPECT_EQ("3 3 (9)", this->top_.shape_string());
  layer.Forward(this->no_bottom_, this->top_vec_);
  this->ExpectEqual(
      {0.25, 0, 0, 0, 0.25, 0, 0, 0, 0.25}, this->top_.cpu_data());
}

TYPED_TEST(MatrixGenLayerTest, WhatLiesAboveTheDiagonalCountsAsZero) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(2));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  this->SetFactor(&layer, {1, 9, 2, 3});
  layer.Forward(this->no_bottom_, this->top_vec_);
  this->ExpectEqual({1, 2, 2, 13}, this->top_.cpu_data());
  this->ExpectEqual({1, 0, 2, 3}, layer.blobs()[0]->cpu_data());  // snapshots
}

TYPED_TEST(MatrixGenLayerTest, TheResultIsExactlySymmetric) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(21));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  GaussianFiller<Dtype>(FillerParameter()).Fill(layer.blobs()[0].get());
  layer.Forward(this->no_bottom_, this->top_vec_);
  const Dtype* C = this->top_.cpu_data();
  for (int i = 0; i < 21; ++i) {
    for (int j = 0; j < i; ++j) { EXPECT_EQ(C[i * 21 + j], C[j * 21 + i]); }
  }
}

TYPED_TEST(MatrixGenLayerTest, Gradient) {
  typedef typename TypeParam::Dtype Dtype;
  for (const int K : {1, 4}) {
    MatrixGenLayer<Dtype> layer(this->Param(K));
    layer.SetUp(this->no_bottom_, this->top_vec_);
    Blob<Dtype>* const R = layer.blobs()[0].get();
    GaussianFiller<Dtype>(FillerParameter()).Fill(R);
    ExpectGradients<Dtype>(&layer, this->no_bottom_, this->top_vec_, {});
    ExpectMutationIsCaught<Dtype>(
        "R without G'",
        [&](Blob<Dtype>* blob) {
          const Dtype* G = this->top_.cpu_diff();
          for (int i = 0; i < K; ++i) {
            for (int j = 0; j <= i; ++j) {
              for (int k = j; k < K; ++k) {
                blob->mutable_cpu_diff()[i * K + j] -=
                    G[k * K + i] * blob->cpu_data()[k * K + j];
              }
            }
          }
        },
        R, &layer, this->no_bottom_, this->top_vec_, -2);
  }
}

TYPED_TEST(MatrixGenLayerTest, GradientsOfSeveralBackwardsAdd) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(2));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  layer.Forward(this->no_bottom_, this->top_vec_);  // R = I
  const Dtype G[] = {1, 2, 3, 4};
  std::copy(G, G + 4, this->top_.mutable_cpu_diff());
  for (int i = 0; i < 2; ++i) {
    layer.Backward(this->top_vec_, vector<bool>(), this->no_bottom_);
  }
  this->ExpectEqual({4, 0, 10, 16}, layer.blobs()[0]->cpu_diff());
}

TYPED_TEST(MatrixGenLayerTest, AFrozenFactorGetsNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  MatrixGenLayer<Dtype> layer(this->Param(2));
  layer.SetUp(this->no_bottom_, this->top_vec_);
  layer.set_param_propagate_down(0, false);
  layer.Forward(this->no_bottom_, this->top_vec_);
  caffe_set(4, Dtype(1), this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(), this->no_bottom_);
  this->ExpectEqual({0, 0, 0, 0}, layer.blobs()[0]->cpu_diff());
}

TYPED_TEST(MatrixGenLayerTest, TheFactorGivenInTheLayerIsKept) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param(2);
  Blob<Dtype> R(vector<int>(2, 2));
  caffe_set(4, Dtype(3), R.mutable_cpu_data());
  R.ToProto(param.add_blobs());
  MatrixGenLayer<Dtype> layer(param);
  layer.SetUp(this->no_bottom_, this->top_vec_);
  layer.Forward(this->no_bottom_, this->top_vec_);
  this->ExpectEqual({9, 9, 9, 18}, this->top_.cpu_data());
}

TYPED_TEST(MatrixGenLayerTest, NoClassesAreRejectedWithAReason) {
  MatrixGenLayer<typename TypeParam::Dtype> layer(this->Param(0));
  EXPECT_DEATH(layer.SetUp(this->no_bottom_, this->top_vec_),
      "Layer compatibility: num_classes is 0, expected at least 1. Set "
      "matrix_gen_param");
}

TYPED_TEST(MatrixGenLayerTest, ADiagonalThatIsNotPositiveIsRejected) {
  for (const float diagonal : {0.f, -1.f, INFINITY, NAN}) {
    MatrixGenLayer<typename TypeParam::Dtype> layer(this->Param(2, diagonal));
    EXPECT_DEATH(layer.SetUp(this->no_bottom_, this->top_vec_),
        "Layer compatibility: diagonal is .*, expected a number above 0 .* "
        "Set matrix_gen_param");
  }
}

TYPED_TEST(MatrixGenLayerTest, AFactorOfAnotherSizeIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  LayerParameter param = this->Param(2);
  Blob<Dtype>(vector<int>(2, 3)).ToProto(param.add_blobs());
  MatrixGenLayer<Dtype> layer(param);
  EXPECT_DEATH(layer.SetUp(this->no_bottom_, this->top_vec_),
      "Layer compatibility: got 1 parameter blobs, the first 3 3 .9., expected "
      "one of 2 2 .4.. Set num_classes");
}

}  // namespace caffe
