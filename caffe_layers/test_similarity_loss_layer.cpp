
#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/test/test_caffe_main.hpp"
#include "gtest/gtest.h"
#include "similarity_loss_layer.hpp"
#include "test_gradient_check.hpp"
#include "test_layer_properties.hpp"

namespace caffe {

// Window 3, so channel 0 pairs (y, x) with (y + 1, x - 1), channel 1 with
// (y + 1, x + 1). Labels and similarities; 7 marks what must not count:
//    0   0   1        channel 0:  7  .6   7        channel 1:  7  .9   7
//    1 255   0                    7   7   7                    7   7   7
// .6 joins 0 to 1, .9 joins 0 to 0; other pairs meet 255 or leave the image.
template <typename TypeParam>
class SimilarityLossLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  SimilarityLossLayerTest() : s_(1, 2, 2, 3), labels_(1, 1, 2, 3) {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    param_.set_name("loss");
    param_.mutable_loss_param()->set_ignore_label(255);
    param_.mutable_similarity_loss_param()->set_window(3);
    param_.mutable_similarity_loss_param()->set_threshold(0.25);
    const Dtype labels[] = {0, 0, 1,  //
        1, 255, 0};
    std::copy(labels, labels + 6, labels_.mutable_cpu_data());
    caffe_set(12, Dtype(7), s_.mutable_cpu_data());
    s_.mutable_cpu_data()[kUnlike] = 0.6;
    s_.mutable_cpu_data()[kAlike] = 0.9;
  }
  // Similarities off the threshold by at least 0.05, of both labels' kinds.
  void FillBottom(int num, int pairs, int height, int width) {
    Caffe::set_random_seed(1701);
    s_.Reshape(num, pairs, height, width);
    labels_.Reshape(num, 1, height, width);
    for (int i = 0; i < s_.count(); ++i) {
      s_.mutable_cpu_data()[i] =
          Dtype(0.1) * (caffe_rng_rand() % 10) + Dtype(0.05) * (i % 2);
      if (s_.cpu_data()[i] == Dtype(0.25)) { s_.mutable_cpu_data()[i] = 0.5; }
    }
    for (int i = 0; i < labels_.count(); ++i) {
      labels_.mutable_cpu_data()[i] = i % 7 == 6 ? 255 : caffe_rng_rand() % 2;
    }
  }
  Dtype Forward(SimilarityLossLayer<Dtype>* layer) {
    layer->SetUp(bottom_vec_, top_vec_);
    layer->Forward(bottom_vec_, top_vec_);
    return loss_.cpu_data()[0];
  }
  // On the GPU, a pass says what the one before it found wrong.
  void ForwardTwice(SimilarityLossLayer<Dtype>* layer) {
    Forward(layer);
    Forward(layer);
  }
  void Backward(SimilarityLossLayer<Dtype>* layer) {
    // What an earlier pass left must go.
    caffe_set(s_.count(), Dtype(-7), s_.mutable_cpu_diff());
    layer->Backward(top_vec_, {true, false}, bottom_vec_);
  }
  // The slope of the unlike pair's loss at the similarity s, as printed in
  // eq. (7) and as the layer has it.
  double PrintedSlope(double s) {
    const double step = 0.01;
    return (std::min(0., s + step - 0.25) - std::min(0., s - step - 0.25)) /
           (2 * step);
  }
  Dtype OurSlope(SimilarityLossLayer<Dtype>* layer, Dtype s) {
    s_.mutable_cpu_data()[kUnlike] = s;
    Forward(layer);
    Backward(layer);
    return s_.cpu_diff()[kUnlike] * 2;  // one of two pairs
  }

  enum { kUnlike = 1, kAlike = 6 + 1 };  // where the two pairs lie in s
  LayerParameter param_;
  Blob<Dtype> s_, labels_, loss_;
  const vector<Blob<Dtype>*> bottom_vec_{&s_, &labels_}, top_vec_{&loss_};
};

TYPED_TEST_CASE(SimilarityLossLayerTest, TestDtypesAndDevices);

TYPED_TEST(SimilarityLossLayerTest, TwoPairsByHand) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  EXPECT_NEAR(((0.6 - 0.25) - 0.9) / 2, this->Forward(&layer), 1e-6);
  this->Backward(&layer);
  for (int i = 0; i < 12; ++i) {
    const double expected =
        i == this->kUnlike ? 0.5 : (i == this->kAlike ? -0.5 : 0);
    EXPECT_EQ(expected, this->s_.cpu_diff()[i]) << "at " << i;
  }
}

TYPED_TEST(SimilarityLossLayerTest, LossWeightScalesTheGradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->param_.add_loss_weight(3);
  SimilarityLossLayer<Dtype> layer(this->param_);
  this->Forward(&layer);
  this->Backward(&layer);
  EXPECT_EQ(1.5, this->s_.cpu_diff()[this->kUnlike]);
}

// Eq. (7) is printed with min where the text under it, and the layer, has max.
TYPED_TEST(SimilarityLossLayerTest, UnlikePairsArePushedBelowTheThreshold) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  EXPECT_EQ(0, this->PrintedSlope(0.6));  // too similar, and left so
  EXPECT_EQ(1, this->OurSlope(&layer, 0.6));
  EXPECT_NEAR(1, this->PrintedSlope(0.1), 1e-6);  // dissimilar, but not enough
  EXPECT_EQ(0, this->OurSlope(&layer, 0.1));
  EXPECT_EQ(0, this->OurSlope(&layer, 0.25));  // the kink
}

TYPED_TEST(SimilarityLossLayerTest, Gradient) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 2, 3, 3);
  SimilarityLossLayer<Dtype> layer(this->param_);
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
  ExpectMutationIsCaught<Dtype>("s without unlike pairs", DropPositive<Dtype>,
      &this->s_, &layer, this->bottom_vec_, this->top_vec_, 0);
  ExpectMutationIsCaught<Dtype>("s without like pairs", DropNegative<Dtype>,
      &this->s_, &layer, this->bottom_vec_, this->top_vec_, 0);
}

TYPED_TEST(SimilarityLossLayerTest, GradientWhereTheWindowIsLargerThanTheMap) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(1, 8, 3, 4);
  this->param_.mutable_similarity_loss_param()->set_window(7);
  SimilarityLossLayer<Dtype> layer(this->param_);
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(SimilarityLossLayerTest, GradientAlsoAfterANewInputSize) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  this->Forward(&layer);
  this->FillBottom(1, 2, 2, 5);
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->Backward(&layer);
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
}

TYPED_TEST(SimilarityLossLayerTest, AnySizeAgreesWithTheDefinition) {
  typedef typename TypeParam::Dtype Dtype;
  const int sizes[][3] = {{1, 1, 1}, {2, 1, 9}, {2, 9, 1}, {3, 21, 34}};
  for (const int* size : sizes) {
    const int window = 11;
    const PairGrid grid(size[1], size[2], window);
    this->FillBottom(size[0], grid.pairs(), grid.height, grid.width);
    this->param_.mutable_similarity_loss_param()->set_window(window);
    double sum = 0;
    int num_valid = 0;
    for (int n = 0; n < size[0]; ++n) {
      for (int p = 0; p < grid.pairs(); ++p) {
        for (int i = 0; i < grid.height * grid.width; ++i) {
          const int y = i / grid.width, x = i % grid.width;
          const int y2 = y + grid.OffsetOf(p).dy, x2 = x + grid.OffsetOf(p).dx;
          if (!grid.Contains(y2, x2)) { continue; }
          const Dtype l1 = this->labels_.data_at(n, 0, y, x);
          const Dtype l2 = this->labels_.data_at(n, 0, y2, x2);
          if (l1 == 255 || l2 == 255) { continue; }
          const double s = this->s_.data_at(n, p, y, x);
          sum += l1 == l2 ? -s : std::max(0., s - 0.25);
          ++num_valid;
        }
      }
    }
    SimilarityLossLayer<Dtype> layer(this->param_);
    EXPECT_NEAR(sum / std::max(1, num_valid), this->Forward(&layer), 1e-6);
  }
}

TYPED_TEST(SimilarityLossLayerTest, ResultsDoNotDependOnTheNumberOfThreads) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 72, 17, 19);
  this->param_.mutable_similarity_loss_param()->set_window(23);
  ExpectSameForAnyNumberOfThreads<SimilarityLossLayer<Dtype>>(
      this->param_, this->bottom_vec_, this->top_vec_, 1);
}

TYPED_TEST(SimilarityLossLayerTest, AllIgnoredIsLossZeroAndGradientZero) {
  typedef typename TypeParam::Dtype Dtype;
  caffe_set(6, Dtype(255), this->labels_.mutable_cpu_data());
  SimilarityLossLayer<Dtype> layer(this->param_);
  EXPECT_EQ(0, this->Forward(&layer));
  this->Backward(&layer);
  EXPECT_EQ(0, this->s_.asum_diff());
}

TYPED_TEST(SimilarityLossLayerTest, OneColumnHasNoPairAndNoLoss) {
  typedef typename TypeParam::Dtype Dtype;
  this->FillBottom(2, 2, 5, 1);
  SimilarityLossLayer<Dtype> layer(this->param_);
  EXPECT_EQ(0, this->Forward(&layer));
  this->Backward(&layer);
  EXPECT_EQ(0, this->s_.asum_diff());
}

TYPED_TEST(SimilarityLossLayerTest, AnyClassIndexMayStandInALabelMap) {
  typedef typename TypeParam::Dtype Dtype;
  for (int i = 0; i < 6; ++i) { this->labels_.mutable_cpu_data()[i] *= 1000; }
  this->param_.mutable_loss_param()->clear_ignore_label();
  SimilarityLossLayer<Dtype> layer(this->param_);
  // Two more pairs, unlike since they meet 255000.
  EXPECT_NEAR((0.35 - 0.9 + 2 * (7 - 0.25)) / 4, this->Forward(&layer), 1e-6);
}

TYPED_TEST(SimilarityLossLayerTest, AWrongLabelIsRejectedWithItsPosition) {
  typedef typename TypeParam::Dtype Dtype;
  for (const double label : {-1., 0.5, HUGE_VAL}) {
    this->labels_.mutable_cpu_data()[5] = label;
    SimilarityLossLayer<Dtype> layer(this->param_);
    EXPECT_DEATH(this->ForwardTwice(&layer),
        "Layer loss: label (-1|0.5|inf) at .n, y, x. = .0, 1, 2., expected an "
        "integer of at least 0 or the ignore label 255. Mend the label map");
  }
}

TYPED_TEST(SimilarityLossLayerTest, AThresholdThatIsNoSimilarityIsRejected) {
  typedef typename TypeParam::Dtype Dtype;
  for (const float threshold : {-0.1f, 1.1f, NAN}) {
    this->param_.mutable_similarity_loss_param()->set_threshold(threshold);
    SimilarityLossLayer<Dtype> layer(this->param_);
    EXPECT_DEATH(this->Forward(&layer),
        "Layer loss: threshold is .*, expected a similarity in .0, 1.. Set "
        "similarity_loss_param");
  }
}

TYPED_TEST(SimilarityLossLayerTest, AWrongWindowIsRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  for (const unsigned int window : {0u, 1u, 4u, 131071u}) {
    this->param_.mutable_similarity_loss_param()->set_window(window);
    SimilarityLossLayer<Dtype> layer(this->param_);
    EXPECT_DEATH(this->Forward(&layer),
        "Layer loss: window is " + std::to_string(window) +
            ", expected an odd number from 3 to 1023. Set "
            "similarity_loss_param");
  }
}

TYPED_TEST(SimilarityLossLayerTest, AnotherNormalizationIsRejected) {
  typedef typename TypeParam::Dtype Dtype;
  const char* const message =
      "Layer loss: loss_param sets normalization or normalize, but the loss is "
      "always the mean over the valid pairs. Remove it";
  LayerParameter param = this->param_;
  param.mutable_loss_param()->set_normalize(true);
  SimilarityLossLayer<Dtype> normalize(param);
  EXPECT_DEATH(this->Forward(&normalize), message);
  param = this->param_;
  param.mutable_loss_param()->set_normalization(
      LossParameter_NormalizationMode_FULL);
  SimilarityLossLayer<Dtype> normalization(param);
  EXPECT_DEATH(this->Forward(&normalization), message);
}

TYPED_TEST(SimilarityLossLayerTest, WrongShapesAreRejectedWithAReason) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  this->s_.Reshape(1, 8, 2, 3);
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the similarities have 8 channels, expected 2 .the pairs of "
      "window 3.. Give similarity_loss_param the same window");
  this->s_.Reshape(2, 2, 2, 3);
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the labels are 1 1 2 3 .6., expected 2 1 2 3 .12. to go "
      "with similarities of 2 2 2 3 .24.. Give the layer labels");
  this->s_.Reshape(vector<int>(1, 6));
  EXPECT_DEATH(this->Forward(&layer),
      "Layer loss: the similarities are 6 .6., expected four axes");
}

TYPED_TEST(SimilarityLossLayerTest, LabelsHaveNoGradient) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  this->Forward(&layer);
  EXPECT_DEATH(layer.Backward(this->top_vec_, {true, true}, this->bottom_vec_),
      "Layer loss: cannot backpropagate to the labels");
}

TYPED_TEST(SimilarityLossLayerTest, AGradientThatIsNotWantedIsLeftAlone) {
  typedef typename TypeParam::Dtype Dtype;
  SimilarityLossLayer<Dtype> layer(this->param_);
  ExpectUnwantedGradientsAreLeftAlone<Dtype>(
      &layer, this->bottom_vec_, this->top_vec_, 1);
}

}  // namespace caffe
