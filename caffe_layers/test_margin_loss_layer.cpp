
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "caffe/layers/softmax_loss_layer.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/util/rng.hpp"
#include "gtest/gtest.h"
#include "margin_loss_layer.hpp"
#include "test_gradient_check.hpp"
#include "test_layer_properties.hpp"

namespace caffe {

// Three classes, four pixels in a row, T = 0.5. Own score minus best other:
// 2 - 1 = 1, 1 - 2 = -1, 0.25 - 0 = 0.25 and ignored. L: 0, 1.5, 0.25, none.
template <typename TypeParam>
class MarginLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  MarginLossLayerTest() : scores_(1, 3, 1, 4), labels_(1, 1, 1, 4) {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    param_.set_name("loss");
    param_.mutable_loss_param()->set_ignore_label(255);
    const Dtype scores[] = {2, 2, 0, 9,  //
        1, 1, 0.25, 9,                   //
        0, 0, 0, 9};
    const Dtype labels[] = {0, 1, 1, 255};
    std::copy(scores, scores + 12, scores_.mutable_cpu_data());
    std::copy(labels, labels + 4, labels_.mutable_cpu_data());
  }
  // Scores a quarter apart and in random order: no ties, and no score
  // difference is within 0.1 of a margin such as 0.6 or 5.1.
  void FillBottom(int num, int classes, int height, int width) {
    Caffe::set_random_seed(1701);
    scores_.Reshape(num, classes, height, width);
    labels_.Reshape(num, 1, height, width);
    vector<int> order(scores_.count());
    for (int i = 0; i < order.size(); ++i) { order[i] = i; }
    shuffle(order.begin(), order.end());
    for (int i = 0; i < order.size(); ++i) {
      scores_.mutable_cpu_data()[i] = order[i] / Dtype(4);
    }
    for (int i = 0; i < labels_.count(); ++i) {
      labels_.mutable_cpu_data()[i] =
          i % 5 == 4 ? 255 : caffe_rng_rand() % classes;
    }
  }
  Dtype Forward(MarginLossLayer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    return loss_.cpu_data()[0];
  }
  // On the GPU, a pass says what the one before it found wrong.
  void ForwardTwice(MarginLossLayer<Dtype>* layer) {
    Forward(layer);
    Forward(layer);
  }
  void Backward(MarginLossLayer<Dtype>* layer) {
    // What an earlier pass left must go.
    caffe_set(scores_.count(), Dtype(-7), scores_.mutable_cpu_diff());
    layer->Backward(top_vec_, {true, false}, bottom_vec_);
  }
  // Eq. (6), pixel by pixel.
  double SumByDefinition(Dtype margin) {
    double sum = 0;
    for (int n = 0; n < scores_.num(); ++n) {
      for (int y = 0; y < scores_.height(); ++y) {
        for (int x = 0; x < scores_.width(); ++x) {
          const int l = labels_.data_at(n, 0, y, x);
          if (l == 255) { continue; }
          Dtype best = -std::numeric_limits<Dtype>::max();
          for (int k = 0; k < scores_.channels(); ++k) {
            if (k != l) { best = std::max(best, scores_.data_at(n, k, y, x)); }
          }
          sum += std::max<double>(
              0, margin - (scores_.data_at(n, l, y, x) - best));
        }
      }
    }
    return sum;
  }

  LayerParameter param_;
  Blob<Dtype> scores_, labels_, loss_;
  const vector<Blob<Dtype>*> bottom_vec_{&scores_, &labels_}, top_vec_{&loss_};
};

TYPED_TEST_CASE(MarginLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(MarginLossLayerTest, FourPixelsByHand) {
  typedef typename TypeParam::Dtype Dtype;
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_NEAR(1.75 / 3, this->Forward(&layer), 1e-6);
  this->Backward(&layer);
  const double third = 1. / 3;  // pixel 2: classes 0 and 2 tie, 0 is the rival
  const double expected[] = {0, third, third, 0,  //
      0, -third, -third, 0,                       //
      0, 0, 0, 0};
  for (int i = 0; i < 12; ++i) {
    EXPECT_NEAR(expected[i], this->scores_.cpu_diff()[i], 1e-6) << "at " << i;
  }
}

TYPED_TEST(MarginLossLayerTest, LossWeightScalesTheGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.add_loss_weight(3);
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_NEAR(1.75 / 3, this->Forward(&layer), 1e-6);
  this->Backward(&layer);
  EXPECT_NEAR(1, this->scores_.cpu_diff()[1], 1e-6);
}

TYPED_TEST(MarginLossLayerTest, AtTheKinkTheGradientIsZero) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_margin_loss_param()->set_margin(0.25);  // pixel 2's
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_NEAR(1.25 / 3, this->Forward(&layer), 1e-6);
  this->Backward(&layer);
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(0, this->scores_.cpu_diff()[4 * k + 2]);
  }
}

TYPED_TEST(MarginLossLayerTest, NormalizesAsSoftmaxWithLossDoes) {
  typedef typename TypeParam::Dtype Dtype;
  // With equal scores each pixel costs log(3) there and T = 0.5 here.
  const double softmax_per_pixel = std::log(3.);
  this->scores_.Reshape(2, 3, 1, 2);
  this->labels_.Reshape(2, 1, 1, 2);
  caffe_set(12, Dtype(0), this->scores_.mutable_cpu_data());
  vector<LossParameter> loss_params(1);  // the default, then all others
  loss_params[0].set_ignore_label(255);
  for (int mode = 0; mode < 4; ++mode) {
    loss_params.push_back(loss_params[0]);
    loss_params.back().set_normalization(LossParameter_NormalizationMode(mode));
  }
  for (const bool normalize : {false, true}) {
    loss_params.push_back(loss_params[0]);
    loss_params.back().set_normalize(normalize);
    loss_params.push_back(loss_params.back());
    loss_params.back().set_normalization(LossParameter_NormalizationMode_FULL);
  }
  for (const LossParameter& loss_param : loss_params) {
    *this->param_.mutable_loss_param() = loss_param;
    SoftmaxWithLossLayer<Dtype> softmax_loss(this->param_);
    softmax_loss.SetUp(this->bottom_vec_, this->top_vec_);
    softmax_loss.Forward(this->bottom_vec_, this->top_vec_);
    const double pixels = this->loss_.cpu_data()[0] / softmax_per_pixel;
    MarginLossLayer<Dtype> layer(this->param_);
    EXPECT_NEAR(0.5 * pixels, this->Forward(&layer), 1e-5)
        << loss_param.ShortDebugString();
    this->Backward(&layer);  // three pixels count, each has one -1
    EXPECT_NEAR(2 * pixels, this->scores_.asum_diff(), 1e-5);
  }
}

TYPED_TEST(MarginLossLayerTest, Gradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 3, 1, 4);
  this->param_.mutable_margin_loss_param()->set_margin(1.1);
  MarginLossLayer<Dtype> layer(this->param_);
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
  ExpectMutationIsCaught<Dtype>("the scores without the label's term",
      DropNegative<Dtype>, &this->scores_, &layer, this->bottom_vec_,
      this->top_vec_, 0);
  ExpectMutationIsCaught<Dtype>("the scores without the rival's term",
      DropPositive<Dtype>, &this->scores_, &layer, this->bottom_vec_,
      this->top_vec_, 0);
}

TYPED_TEST(MarginLossLayerTest, GradientAlsoAfterANewInputSize) {
  typedef typename TypeParam::Dtype Dtype;
  MarginLossLayer<Dtype> layer(this->param_);
  this->Forward(&layer);
  this->FillBottom(3, 2, 2, 1);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  EXPECT_NEAR(this->SumByDefinition(0.5) / 5, this->loss_.cpu_data()[0], 1e-5);
  this->param_.mutable_margin_loss_param()->set_margin(0.6);
  MarginLossLayer<Dtype> off_the_kinks(this->param_);
  ExpectGradients<Dtype>(
      &off_the_kinks, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(MarginLossLayerTest, AnySizeAgreesWithTheDefinition) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_loss_param()->set_normalization(
      LossParameter_NormalizationMode_NONE);
  this->param_.mutable_margin_loss_param()->set_margin(5.1);
  const int sizes[][4] = {{1, 2, 1, 1}, {3, 5, 1, 1}, {2, 4, 7, 1},
      {2, 3, 16, 32}, {2, 21, 37, 41}};
  for (const int* size : sizes) {
    this->FillBottom(size[0], size[1], size[2], size[3]);
    MarginLossLayer<Dtype> layer(this->param_);
    const double expected = this->SumByDefinition(5.1f);
    EXPECT_NEAR(1, this->Forward(&layer) / expected, 1e-6);
  }
}

TYPED_TEST(MarginLossLayerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 5, 31, 53);
  ExpectSameForAnyNumberOfThreads<MarginLossLayer<Dtype>>(
      this->param_, this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(MarginLossLayerTest, AllIgnoredIsLossZeroAndGradientZero) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(4, Dtype(255), this->labels_.mutable_cpu_data());
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_EQ(0, this->Forward(&layer));
  this->Backward(&layer);
  EXPECT_EQ(0, this->scores_.asum_diff());
}

TYPED_TEST(MarginLossLayerTest, AnIgnoredClassDoesNotCountButIsARival) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_loss_param()->set_ignore_label(0);
  this->labels_.mutable_cpu_data()[3] = 0;
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_NEAR(1.75 / 2, this->Forward(&layer), 1e-6);  // pixels 1 and 2
}

TYPED_TEST(MarginLossLayerTest, NotANumberDoesNotHide) {
  typedef typename TypeParam::Dtype Dtype;
  this->scores_.mutable_cpu_data()[0] =
      std::numeric_limits<Dtype>::quiet_NaN();  // pixel 0, its own class
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_NE(0, std::isnan(this->Forward(&layer)));
}

TYPED_TEST(MarginLossLayerTest, AGradientThatIsNotWantedIsLeftAlone) {
  typedef typename TypeParam::Dtype Dtype;
  MarginLossLayer<Dtype> layer(this->param_);
  ExpectUnwantedGradientsAreLeftAlone<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(MarginLossLayerTest, AWrongLabelIsRejectedWithItsPosition) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 3, 2, 4);
  Dtype* label = this->labels_.mutable_cpu_data() + 14;
  const std::string where =
      " at .n, y, x. = .1, 1, 2., expected an integer in "
      "0..2 or the ignore label 255. Mend the label map";
  MarginLossLayer<Dtype> layer(this->param_);
  *label = 3;
  EXPECT_DEATH(this->ForwardTwice(&layer), "Layer loss: label 3" + where);
  *label = -1;
  EXPECT_DEATH(this->ForwardTwice(&layer), "Layer loss: label -1" + where);
  *label = 1.5;
  EXPECT_DEATH(this->ForwardTwice(&layer), "Layer loss: label 1.5" + where);
  *label = std::numeric_limits<Dtype>::quiet_NaN();
  EXPECT_DEATH(this->ForwardTwice(&layer), "Layer loss: label -?nan" + where);
}

TYPED_TEST(MarginLossLayerTest, WithoutAnIgnoreLabelThereIsNone) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.mutable_loss_param()->clear_ignore_label();
  MarginLossLayer<Dtype> layer(this->param_);
  EXPECT_DEATH(this->ForwardTwice(&layer),
      "label 255 at .n, y, x. = .0, 0, 3., expected an integer in 0..2 .no "
      "ignore label is set.. Mend the label map, or set loss_param . "
      "ignore_label: 255");
}

TYPED_TEST(MarginLossLayerTest, AMarginThatIsNotPositiveIsRejected) {
  typedef typename TypeParam::Dtype Dtype;
  for (const float margin : {0.f, -1.f, INFINITY, NAN}) {
    this->param_.mutable_margin_loss_param()->set_margin(margin);
    MarginLossLayer<Dtype> layer(this->param_);
    EXPECT_DEATH(this->Forward(&layer),
        "Layer loss: margin is .*, expected a number above 0. Set "
        "margin_loss_param");
  }
}

TYPED_TEST(MarginLossLayerTest, WrongShapesAreRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  MarginLossLayer<Dtype> layer(this->param_);
  this->labels_.Reshape(1, 1, 4, 1);
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the labels are 1 1 4 1 .4., expected 1 1 1 4 .4. to go with "
      "scores of 1 3 1 4 .12.. Give the layer labels");
  this->scores_.Reshape(1, 1, 4, 1);
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the scores have 1 channel, expected at least 2. Give one");
  this->scores_.Reshape(vector<int>(2, 3));
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the scores are 3 3 .9., expected four axes, N x C x H x W");
}

TYPED_TEST(MarginLossLayerTest, LabelsHaveNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  MarginLossLayer<Dtype> layer(this->param_);
  this->Forward(&layer);
  EXPECT_DEATH(layer.Backward(this->top_vec_, {true, true}, this->bottom_vec_),
      "Layer loss: cannot backpropagate to the labels");
}

}  // namespace caffe
