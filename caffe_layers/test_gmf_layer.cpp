
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "gmf_layer.hpp"
#include "gtest/gtest.h"
#include "neighbourhood.hpp"
#include "test_gradient_check.hpp"
#include "test_layer_properties.hpp"

namespace caffe {

// Means, unary, similarities and compatibility: 2 images, 3 classes, 3 x 4
// pixels, window 3 (2 pairs).
template <typename TypeParam>
class GMFLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  GMFLayerTest() : bottom_vec_{&means_, &unary_, &similarities_, &C_} {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    top_vec_.push_back(&top_);
    Fill(2, 3, 3, 4, 3);
  }

  // Means and unary in [0, 1], similarities in [0.5, 1], C well conditioned.
  void Fill(int num, int classes, int height, int width, int window) {
    Caffe::set_random_seed(1701);
    means_.Reshape(num, classes, height, width);
    unary_.Reshape(num, classes, height, width);
    similarities_.Reshape(num, NumPairs(window), height, width);
    C_.Reshape(vector<int>(2, classes));
    FillerParameter filler_param;
    UniformFiller<Dtype>(filler_param).Fill(&means_);
    UniformFiller<Dtype>(filler_param).Fill(&unary_);
    filler_param.set_min(0.5);
    UniformFiller<Dtype>(filler_param).Fill(&similarities_);
    for (int k = 0; k < classes; ++k) {
      for (int l = 0; l < classes; ++l) {
        C_.mutable_cpu_data()[k * classes + l] = k == l ? 2 : -0.5 / (k + l);
      }
    }
  }
  LayerParameter ParamWithWindow(unsigned int window) {
    LayerParameter param;
    param.set_name("gmf1/even");
    param.mutable_gmf_param()->set_window(window);
    return param;
  }
  // On the GPU, a pass says what the one before it found wrong.
  void ForwardTwice(Layer<Dtype>* layer) {
    for (int pass = 0; pass < 2; ++pass) {
      layer->Forward(bottom_vec_, top_vec_);
      top_.cpu_data();  // waits for the GPU
    }
  }
  void SetTo(Blob<Dtype>* blob, const vector<Dtype>& values) {
    ASSERT_EQ(blob->count(), values.size());
    std::copy(values.begin(), values.end(), blob->mutable_cpu_data());
  }
  vector<Dtype> Data(const Blob<Dtype>& blob) {
    return vector<Dtype>(blob.cpu_data(), blob.cpu_data() + blob.count());
  }

  Blob<Dtype> means_, unary_, similarities_, C_, top_;
  const vector<Blob<Dtype>*> bottom_vec_;
  vector<Blob<Dtype>*> top_vec_;
};

TYPED_TEST_CASE(GMFLayerTest, TestDtypesAndDevices);

// One class and C = 2: a pixel's new mean is (r + 2 s mu_j) / (1 + 2 s).
TYPED_TEST(GMFLayerTest, UpdatesTheEvenThenTheOddColumns) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(1, 1, 2, 2, 3);
  this->SetTo(&this->means_, {1, 2,  //
                                 3, 4});
  this->SetTo(&this->unary_, {5, 6,  //
                                 7, 8});
  this->SetTo(&this->C_, {2});
  this->SetTo(&this->similarities_, {0, 1,      // (0, 1) - (1, 0): 1
                                        0, 0,   // dx = -1
                                        .5, 0,  // (0, 0) - (1, 1): 0.5
                                        0, 0});
  GMFEvenLayer<Dtype> even(this->ParamWithWindow(3));
  even.SetUp(this->bottom_vec_, this->top_vec_);
  even.Forward(this->bottom_vec_, this->top_vec_);
  const Dtype after_even[] = {(5 + 4) / 2., 2, (7 + 2 * 2) / 3., 4};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(after_even[i], this->top_.cpu_data()[i], 1e-5);
  }
  this->means_.CopyFrom(this->top_);
  GMFOddLayer<Dtype> odd(this->ParamWithWindow(3));
  odd.SetUp(this->bottom_vec_, this->top_vec_);
  odd.Forward(this->bottom_vec_, this->top_vec_);
  const Dtype after_odd[] = {
      4.5, (6 + 2 * 11 / 3.) / 3, 11 / 3., (8 + 4.5) / 2};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(after_odd[i], this->top_.cpu_data()[i], 1e-5);
  }
}

TYPED_TEST(GMFLayerTest, TypesAreRegisteredUnderTheirNames) {
  typedef typename TypeParam::Dtype Dtype;
  for (const char* type : {"GMFEven", "GMFOdd"}) {
    LayerParameter param = this->ParamWithWindow(3);
    param.set_type(type);
    EXPECT_STREQ(type, LayerRegistry<Dtype>::CreateLayer(param)->type());
  }
}

TYPED_TEST(GMFLayerTest, WithoutSimilarityTheUpdatedColumnsAreTheUnary) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(this->similarities_.count(), Dtype(0),
      this->similarities_.mutable_cpu_data());
  GMFOddLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < this->top_.count(); ++i) {
    const Blob<Dtype>& expected = i % 2 == 1 ? this->unary_ : this->means_;
    EXPECT_EQ(expected.cpu_data()[i], this->top_.cpu_data()[i]);
  }
}

TYPED_TEST(GMFLayerTest, PairsThatLeaveTheImageAreNotRead) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(1, 2, 3, 5, 7);  // the window is larger than the image
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(7));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  const vector<Dtype> expected = this->Data(this->top_);
  const PairGrid grid(3, 5, 7);
  for (int entry = 0; entry < this->similarities_.count(); ++entry) {
    const PixelPair pair = grid.PairOf(entry);
    if (!grid.Contains(pair.lower_y, pair.lower_x)) {
      this->similarities_.mutable_cpu_data()[entry] =
          std::numeric_limits<Dtype>::quiet_NaN();
    }
  }
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(expected, this->Data(this->top_));
}

TYPED_TEST(GMFLayerTest, OnlyTheSymmetricPartOfCMatters) {
  typedef typename TypeParam::Dtype Dtype;
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  const vector<Dtype> expected = this->Data(this->top_);
  this->C_.mutable_cpu_data()[1] += 0.25;
  this->C_.mutable_cpu_data()[3] -= 0.25;
  layer.Forward(this->bottom_vec_, this->top_vec_);
  for (int i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(expected[i], this->top_.cpu_data()[i], 1e-6);
  }
}

TYPED_TEST(GMFLayerTest, GradientOfTheEvenUpdate) {
  typedef typename TypeParam::Dtype Dtype;
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(3));
  ExpectGradients<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, {0, 1, 2, 3});
}

TYPED_TEST(GMFLayerTest, GradientOfTheOddUpdate) {
  typedef typename TypeParam::Dtype Dtype;
  GMFOddLayer<Dtype> layer(this->ParamWithWindow(3));
  ExpectGradients<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, {0, 1, 2, 3});
}

TYPED_TEST(GMFLayerTest, GradientWhereTheWindowIsLargerThanTheImage) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(1, 2, 4, 3, 9);
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(9));
  ExpectGradients<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, {0, 1, 2, 3});
}

TYPED_TEST(GMFLayerTest, GradientAlsoAfterANewInputSize) {
  typedef typename TypeParam::Dtype Dtype;
  GMFOddLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->Fill(1, 2, 5, 3, 3);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("1 2 5 3 (30)", this->top_.shape_string());
  ExpectGradients<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, {0, 1, 2, 3});
}

TYPED_TEST(GMFLayerTest, OnePixelIsItsOwnUnary) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(1, 3, 1, 1, 23);
  GMFEvenLayer<Dtype> even(this->ParamWithWindow(23));
  even.SetUp(this->bottom_vec_, this->top_vec_);
  even.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(this->Data(this->unary_), this->Data(this->top_));
  GMFOddLayer<Dtype> odd(this->ParamWithWindow(23));  // there is no odd column
  odd.SetUp(this->bottom_vec_, this->top_vec_);
  odd.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(this->Data(this->means_), this->Data(this->top_));
}

TYPED_TEST(GMFLayerTest, GradientsThatAreNotWantedAreLeftAlone) {
  typedef typename TypeParam::Dtype Dtype;
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(3));
  ExpectUnwantedGradientsAreLeftAlone<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, 4);
}

TYPED_TEST(GMFLayerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  typedef typename TypeParam::Dtype Dtype;
  this->Fill(2, 7, 21, 35, 11);
  ExpectSameForAnyNumberOfThreads<GMFEvenLayer<Dtype>>(
      this->ParamWithWindow(11), this->bottom_vec_, this->top_vec_, 4);
}

TYPED_TEST(GMFLayerTest, AWrongWindowIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  for (const unsigned int window : {0u, 1u, 4u, 131071u}) {
    GMFEvenLayer<Dtype> layer(this->ParamWithWindow(window));
    EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
        "Layer gmf1/even: window is " + std::to_string(window) +
            ", expected an odd number from 3 to 1023. Set gmf_param");
  }
}

TYPED_TEST(GMFLayerTest, WrongShapesAreRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(3));
  GMFEvenLayer<Dtype> wide(this->ParamWithWindow(7));
  EXPECT_DEATH(wide.SetUp(this->bottom_vec_, this->top_vec_),
      "similarities have 2 channels, expected 8 .the pairs of window 7.");
  EXPECT_DEATH(
      layer.SetUp(this->bottom_vec_, vector<Blob<Dtype>*>(1, &this->means_)),
      "works in place on bottom 0");
  this->C_.Reshape(vector<int>(2, 4));
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "compatibility has shape 4 4 .16., expected K x K for the means' K = 3");
  this->similarities_.Reshape(2, 2, 3, 5);
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "similarities have shape 2 2 3 5 .60., expected N x P x H x W");
  this->unary_.Reshape(2, 3, 4, 4);
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "unary has shape 2 3 4 4 .96., expected the means' shape, 2 3 3 4");
  this->means_.Reshape(vector<int>(2, 3));
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->top_vec_),
      "means have shape 3 3 .9., expected N x K x H x W");
}

TYPED_TEST(GMFLayerTest, ACompatibilityWithoutMinimumIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  GMFEvenLayer<Dtype> layer(this->ParamWithWindow(3));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->SetTo(&this->C_, {1, 0, 0, 0, -2, 0, 0, 0, 1});
  EXPECT_DEATH(this->ForwardTwice(&layer),
      "compatibility has the eigenvalue -2, expected none below 0. Take C = "
      "R R' from a MatrixGen layer");
  this->C_.mutable_cpu_data()[3] = std::numeric_limits<Dtype>::quiet_NaN();
  EXPECT_DEATH(this->ForwardTwice(&layer),
      "compatibility holds nan at .1, 0., expected finite numbers");
}

}  // namespace caffe
