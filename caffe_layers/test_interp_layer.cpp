
#include <algorithm>
#include <limits>
#include <vector>

#include "caffe/filler.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "gtest/gtest.h"
#include "interp_layer.hpp"
#include "test_gradient_check.hpp"
#include "test_layer_properties.hpp"

namespace caffe {

template <typename TypeParam>
class InterpLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  InterpLayerTest() {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    FillBottom(1, 2, 3, 4);
  }
  void FillBottom(int num, int channels, int height, int width) {
    bottom_.Reshape(num, channels, height, width);
    GaussianFiller<Dtype>(FillerParameter()).Fill(&bottom_);
  }
  void SetBottom(int height, int width, const vector<Dtype>& values) {
    bottom_.Reshape(1, 1, height, width);
    std::copy(values.begin(), values.end(), bottom_.mutable_cpu_data());
  }
  LayerParameter Param() {
    LayerParameter param;
    param.set_name("resize");
    return param;
  }
  LayerParameter Zoom(int factor) {
    LayerParameter param = Param();
    param.mutable_interp_param()->set_zoom_factor(factor);
    return param;
  }
  LayerParameter Shrink(int factor) {
    LayerParameter param = Param();
    param.mutable_interp_param()->set_shrink_factor(factor);
    return param;
  }
  LayerParameter Size(int height, int width) {
    LayerParameter param = Param();
    param.mutable_interp_param()->set_height(height);
    param.mutable_interp_param()->set_width(width);
    return param;
  }
  void Forward(const LayerParameter& param) {
    InterpLayer<Dtype> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    layer.Forward(bottom_vec_, top_vec_);
  }
  void Backward(const LayerParameter& param) {
    InterpLayer<Dtype> layer(param);
    layer.SetUp(bottom_vec_, top_vec_);
    // What an earlier pass left must go.
    caffe_set(bottom_.count(), Dtype(-7), bottom_.mutable_cpu_diff());
    layer.Backward(top_vec_, vector<bool>(1, true), bottom_vec_);
  }
  void ExpectTop(const vector<Dtype>& expected) {
    ASSERT_EQ(expected.size(), top_.count());
    for (int i = 0; i < top_.count(); ++i) {
      EXPECT_NEAR(expected[i], top_.cpu_data()[i], 1e-6) << "at " << i;
    }
  }

  Blob<Dtype> bottom_, top_;
  const vector<Blob<Dtype>*> bottom_vec_{&bottom_}, top_vec_{&top_};
};

TYPED_TEST_CASE(InterpLayerTest, TestDtypesAndDevices);

TYPED_TEST(InterpLayerTest, ARowZoomedByTwoByHand) {
  typedef typename TypeParam::Dtype Dtype;
  this->SetBottom(1, 3, {0, 4, 2});
  this->Forward(this->Zoom(2));
  EXPECT_EQ("1 1 1 5 (5)", this->top_.shape_string());
  this->ExpectTop({0, 2, 4, 3, 2});
  // Each pixel hands its gradient back to the pixels that it was made of.
  const Dtype diff[] = {1, 10, 100, 1000, 10000};
  std::copy(diff, diff + 5, this->top_.mutable_cpu_diff());
  this->Backward(this->Zoom(2));
  const Dtype expected[] = {1 + 5, 5 + 100 + 500, 500 + 10000};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(expected[i], this->bottom_.cpu_diff()[i]);
  }
}

TYPED_TEST(InterpLayerTest, FourPixelsZoomedByTwoByHand) {
  this->SetBottom(2, 2,
      {0, 2,  //
          4, 10});
  this->Forward(this->Zoom(2));
  this->ExpectTop({0, 1, 2,  //
      2, 4, 6,               //
      4, 7, 10});
}

TYPED_TEST(InterpLayerTest, ZoomByEightMakesTheInputSizeOfTheNets) {
  this->FillBottom(1, 1, 64, 41);
  this->Forward(this->Zoom(8));
  EXPECT_EQ("1 1 505 321 (162105)", this->top_.shape_string());
}

TYPED_TEST(InterpLayerTest, ShrinkUndoesZoomExactly) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 3, 5, 4);
  this->Forward(this->Zoom(8));
  InterpLayer<Dtype> shrink(this->Shrink(8));
  Blob<Dtype> shrunk;
  const vector<Blob<Dtype>*> shrunk_vec{&shrunk};
  shrink.SetUp(this->top_vec_, shrunk_vec);
  shrink.Forward(this->top_vec_, shrunk_vec);
  ASSERT_EQ(this->bottom_.shape(), shrunk.shape());
  for (int i = 0; i < shrunk.count(); ++i) {
    EXPECT_EQ(this->bottom_.cpu_data()[i], shrunk.cpu_data()[i]);
  }
}

TYPED_TEST(InterpLayerTest, ShrinkByFourTakesEveryFourthPixel) {
  this->SetBottom(1, 9, {0, 10, 20, 30, 40, 50, 60, 70, 80});
  this->Forward(this->Shrink(4));
  this->ExpectTop({0, 40, 80});
}

TYPED_TEST(InterpLayerTest, OneTopPixelTakesTheFirst) {
  this->SetBottom(2, 3,
      {0, 1, 2,  //
          3, 4, 5});
  this->Forward(this->Size(3, 1));
  this->ExpectTop({0, 1.5, 3});
  this->Forward(this->Size(1, 5));
  this->ExpectTop({0, 0.5, 1, 1.5, 2});
  this->Forward(this->Size(1, 1));
  this->ExpectTop({0});
}

TYPED_TEST(InterpLayerTest, OneBottomPixelFillsTheTop) {
  this->SetBottom(1, 1, {7});
  this->Forward(this->Size(2, 3));
  this->ExpectTop({7, 7, 7, 7, 7, 7});
  this->Forward(this->Zoom(8));
  this->ExpectTop({7});
}

TYPED_TEST(InterpLayerTest, TheSameSizeIsACopy) {
  typedef typename TypeParam::Dtype Dtype;
  const Dtype infinity = std::numeric_limits<Dtype>::infinity();
  this->SetBottom(1, 3, {1, infinity, 2});
  for (const LayerParameter& param :
      {this->Zoom(1), this->Shrink(1), this->Size(1, 3)}) {
    this->Forward(param);
    const Dtype* top = this->top_.cpu_data();
    EXPECT_EQ(1, top[0]);
    EXPECT_EQ(infinity, top[1]);
    EXPECT_EQ(2, top[2]);
    caffe_copy(3, this->bottom_.cpu_data(), this->top_.mutable_cpu_diff());
    this->Backward(param);
    EXPECT_EQ(infinity, this->bottom_.cpu_diff()[1]);
  }
}

TYPED_TEST(InterpLayerTest, TheLastPixelIsExactlyTheLastAtAnySize) {
  typedef typename TypeParam::Dtype Dtype;
  for (int size = 2; size < 300; ++size) {
    this->SetBottom(1, 3, {1, 2, Dtype(0.3)});
    this->Forward(this->Size(1, size));
    EXPECT_EQ(1, this->top_.cpu_data()[0]);
    EXPECT_EQ(Dtype(0.3), this->top_.cpu_data()[size - 1]) << size;
  }
}

TYPED_TEST(InterpLayerTest, Gradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 2, 3, 5);
  for (const LayerParameter& param :
      {this->Zoom(1), this->Zoom(3), this->Shrink(2), this->Size(5, 2),
          this->Size(1, 7), this->Size(4, 1)}) {
    InterpLayer<Dtype> layer(param);
    ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
  }
}

TYPED_TEST(InterpLayerTest, GradientOfOnePixel) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 1, 1, 1);
  InterpLayer<Dtype> layer(this->Size(2, 3));
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(InterpLayerTest, GradientAlsoAfterANewInputSize) {
  typedef typename TypeParam::Dtype Dtype;
  InterpLayer<Dtype> layer(this->Zoom(2));
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  this->FillBottom(2, 1, 4, 1);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ("2 1 7 1 (14)", this->top_.shape_string());
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(InterpLayerTest, BackwardIsTheTransposeOfForwardAtAnySize) {
  typedef typename TypeParam::Dtype Dtype;
  // <A x, g> = <x, A' g> for the linear map A of Forward.
  for (int i = 0; i < 50; ++i) {
    this->FillBottom(
        2, 3, 1 + caffe_rng_rand() % 40, 1 + caffe_rng_rand() % 40);
    const LayerParameter param =
        this->Size(1 + caffe_rng_rand() % 90, 1 + caffe_rng_rand() % 90);
    this->Forward(param);
    Blob<Dtype> g(this->top_.shape());
    GaussianFiller<Dtype>(FillerParameter()).Fill(&g);
    caffe_copy(g.count(), g.cpu_data(), this->top_.mutable_cpu_diff());
    this->Backward(param);
    const Dtype forward =
        caffe_cpu_dot(g.count(), this->top_.cpu_data(), this->top_.cpu_diff());
    const Dtype backward = caffe_cpu_dot(this->bottom_.count(),
        this->bottom_.cpu_data(), this->bottom_.cpu_diff());
    const double tolerance = sizeof(Dtype) == sizeof(float) ? 1e-5 : 1e-13;
    EXPECT_NEAR(forward, backward, tolerance * g.count())
        << param.interp_param().ShortDebugString() << " from "
        << this->bottom_.shape_string();
  }
}

TYPED_TEST(InterpLayerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 7, 21, 35);
  ExpectSameForAnyNumberOfThreads<InterpLayer<Dtype>>(
      this->Zoom(3), this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(InterpLayerTest, AGradientThatIsNotWantedIsLeftAlone) {
  typedef typename TypeParam::Dtype Dtype;
  InterpLayer<Dtype> layer(this->Zoom(2));
  ExpectUnwantedGradientsAreLeftAlone<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(InterpLayerTest, NotExactlyOneWayToSetTheSizeIsRejected) {
  LayerParameter zoom_and_shrink = this->Zoom(2);
  zoom_and_shrink.mutable_interp_param()->set_shrink_factor(2);
  LayerParameter zoom_and_size = this->Size(3, 4);
  zoom_and_size.mutable_interp_param()->set_zoom_factor(2);
  LayerParameter zoom_and_height = this->Zoom(2);
  zoom_and_height.mutable_interp_param()->set_height(3);
  LayerParameter only_width = this->Param();
  only_width.mutable_interp_param()->set_width(3);
  for (const LayerParameter& param : {this->Param(), zoom_and_shrink,
           zoom_and_size, zoom_and_height, only_width}) {
    EXPECT_DEATH(this->Forward(param),
        "Layer resize: interp_param is .*, expected exactly one of "
        "zoom_factor, shrink_factor, or height and width together");
  }
}

TYPED_TEST(InterpLayerTest, AZeroIsRejectedWithAReason) {
  for (const LayerParameter& param :
      {this->Zoom(0), this->Shrink(0), this->Size(0, 3), this->Size(3, 0)}) {
    EXPECT_DEATH(this->Forward(param),
        "Layer resize: interp_param is .* 0.*, expected values of at least 1");
  }
}

TYPED_TEST(InterpLayerTest, ASizeThatDoesNotShrinkExactlyIsRejected) {
  this->bottom_.Reshape(1, 1, 9, 10);
  EXPECT_DEATH(this->Forward(this->Shrink(4)),
      "Layer resize: bottom is 10 pixels high or wide, expected 4 k . 1");
}

TYPED_TEST(InterpLayerTest, ASizeThatNoBlobHoldsIsRejected) {
  EXPECT_DEATH(this->Forward(this->Zoom(2000000000)),
      "Layer resize: interp_param . zoom_factor: 2000000000 . makes 3 pixels "
      "into 4000000001, more than a blob holds");
}

TYPED_TEST(InterpLayerTest, WrongShapesAreRejectedWithAReason) {
  this->bottom_.Reshape(1, 2, 0, 4);
  EXPECT_DEATH(this->Forward(this->Zoom(2)),
      "Layer resize: bottom is 1 2 0 4 .0., expected four axes, N x C x H x W, "
      "none of them empty");
  this->bottom_.Reshape(vector<int>(3, 2));
  EXPECT_DEATH(this->Forward(this->Zoom(2)),
      "Layer resize: bottom is 2 2 2 .8., expected four axes");
}

TYPED_TEST(InterpLayerTest, WorkInPlaceIsRejectedWithAReason) {
  InterpLayer<typename TypeParam::Dtype> layer(this->Zoom(2));
  EXPECT_DEATH(layer.SetUp(this->bottom_vec_, this->bottom_vec_),
      "Layer resize: cannot work in place. Give the top another name");
}

}  // namespace caffe
