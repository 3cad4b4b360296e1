
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "gtest/gtest.h"
#include "similarity_layer.hpp"
#include "test_gradient_check.hpp"
#include "test_layer_properties.hpp"

namespace caffe {

// Features: 2 images, 2 channels, 3 x 4 pixels, uniform in [0, 1].
template <typename TypeParam>
class SimilarityLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  SimilarityLayerTest() {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    bottom_vec_.push_back(&bottom_);
    top_vec_.push_back(&top_);
    FillBottom(2, 2, 3, 4);
  }
  void FillBottom(int num, int channels, int height, int width) {
    Caffe::set_random_seed(1701);
    bottom_.Reshape(num, channels, height, width);
    UniformFiller<Dtype>(FillerParameter()).Fill(&bottom_);
  }
  LayerParameter ParamWithWindow(unsigned int window) {
    LayerParameter param;
    param.set_name("similarity");
    param.mutable_similarity_param()->set_window(window);
    return param;
  }

  Blob<Dtype> bottom_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(SimilarityLayerTest, TestDtypesAndDevices);

TYPED_TEST(SimilarityLayerTest, OneChannelTwoByThreePixelsByHand) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype features[] = {0, 1, 2,  //
      1, 3, 0};
  this->bottom_.Reshape(1, 1, 2, 3);
  std::copy(features, features + 6, this->bottom_.mutable_cpu_data());
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  ASSERT_EQ("1 2 2 3 (12)", this->top_.shape_string());
  const double s[] = {0, std::exp(-0.), std::exp(-1.),  // dx = -1: 1 - 1, 2 - 3
      0, 0, 0,                                          // no row below
      std::exp(-9.), std::exp(-1.), 0,                  // dx = 1: 0 - 3, 1 - 0
      0, 0, 0};
  for (int i = 0; i < 12; ++i) {
    EXPECT_NEAR(s[i], this->top_.cpu_data()[i], 1e-6);
  }
}

TYPED_TEST(SimilarityLayerTest, DistantFeaturesHaveSimilarityZeroNotNan) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype features[] = {1e30, -1e30, 1e30, -1e30};
  this->bottom_.Reshape(1, 1, 2, 2);
  std::copy(features, features + 4, this->bottom_.mutable_cpu_data());
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  for (int i = 0; i < this->top_.count(); ++i) {
    EXPECT_EQ(0, this->top_.cpu_data()[i]);
  }
  for (int i = 0; i < 4; ++i) { EXPECT_EQ(0, this->bottom_.cpu_diff()[i]); }
}

TYPED_TEST(SimilarityLayerTest, Gradient) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(SimilarityLayerTest, GradientWhereTheWindowIsLargerThanTheImage) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 2, 4, 3);
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(9));
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(SimilarityLayerTest, GradientAlsoAfterANewInputSize) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->FillBottom(1, 3, 2, 5);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("1 2 2 5 (20)", this->top_.shape_string());
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(SimilarityLayerTest, OnePixelHasNoNeighbour) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 3, 1, 1);
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(23));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(0, this->top_.asum_data());
  caffe_set(this->top_.count(), Dtype(1), this->top_.mutable_cpu_diff());
  layer.Backward(this->top_vec_, vector<bool>(1, true), this->bottom_vec_);
  EXPECT_EQ(0, this->bottom_.asum_diff());
}

TYPED_TEST(SimilarityLayerTest, AGradientThatIsNotWantedIsLeftAlone) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  ExpectUnwantedGradientsAreLeftAlone<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(SimilarityLayerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 7, 21, 35);
  ExpectSameForAnyNumberOfThreads<SimilarityLayer<Dtype>>(
      this->ParamWithWindow(11), this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(SimilarityLayerTest, AWrongWindowIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  for (const unsigned int window : {0u, 1u, 4u, 131071u, 4294967295u}) {
    SimilarityLayer<Dtype> layer(this->ParamWithWindow(window));
    EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
        "Layer similarity: window is " + std::to_string(window) +
            ", expected an odd number from 3 to 1023. Set similarity_param");
  }
}

TYPED_TEST(SimilarityLayerTest, AWrongShapeIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  this->bottom_.Reshape(vector<int>(3, 2));
  SimilarityLayer<Dtype> layer(this->ParamWithWindow(3));
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "Layer similarity: the features have shape 2 2 2 .8., expected N x M x "
      "H x W");
}

}  // namespace caffe
