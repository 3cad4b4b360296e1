#include <gtest/gtest.h>

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/filler.hpp"
#include "caffe/layers/power_layer.hpp"
#include "caffe/test/test_caffe_main.hpp"

#include "test_gradient_check.hpp"

namespace caffe {

// The checker's own test: y = scale * x, whose gradient is `scale` everywhere.
template <typename Dtype>
class GradientCheckTest : public CPUDeviceTest<Dtype> {
 protected:
  GradientCheckTest() : bottom_(1, 1, 1, 3), bottom_vec_{&bottom_} {
    caffe_set(bottom_.count(), Dtype(0.5), bottom_.mutable_cpu_data());
  }
  int FailuresWithScale(Dtype scale) {
    LayerParameter param;
    param.mutable_power_param()->set_scale(scale);
    PowerLayer<Dtype> layer(param);
    FailureCounter counter;
    ExpectGradients<Dtype>(&layer, bottom_vec_, top_vec_, {0});
    return counter.count();
  }
  Blob<Dtype> bottom_, top_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_{&top_};
};

TYPED_TEST_CASE(GradientCheckTest, TestDtypes);

TYPED_TEST(GradientCheckTest, AcceptsARightGradientNearOne) {
  EXPECT_EQ(0, this->FailuresWithScale(1));
}

TYPED_TEST(GradientCheckTest, RejectsATestThatCannotFail) {
  // With gradients of 1e-8 all three mutations stay below the threshold.
  EXPECT_EQ(3, this->FailuresWithScale(1e-8));
}

TYPED_TEST(GradientCheckTest, RejectsAWrongGradient) {
  typedef TypeParam Dtype;
  PowerLayer<Dtype> power((LayerParameter()));
  MutatedLayer<Dtype> layer(&power, &this->bottom_,
      [](Blob<Dtype>* blob) { blob->mutable_cpu_diff()[2] += 0.1; });
  FailureCounter counter;
  ExpectGradients<Dtype>(&layer, this->bottom_vec_, this->top_vec_, {0});
  EXPECT_GT(counter.count(), 0);
}

}  // namespace caffe
