#ifndef TEST_GRADIENT_CHECK_HPP_
#define TEST_GRADIENT_CHECK_HPP_

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "caffe/test/test_gradient_check_util.hpp"

// Gradient tests that can fail.
//
// Caffe's checker accepts an error below threshold * max(1, |gradient|), so a
// test whose gradients are small stays green with a Backward of zeros (its own
// contrastive loss test, an average over 512 pairs, does). ExpectGradients()
// therefore checks a layer and then the check: it breaks the gradient of each
// blob on purpose and wants to see the same checker fail. Use few values,
// gradients near 1, and inputs off every kink by more than the step.

namespace caffe {

/// A wrong Backward: it gets a blob whose diff is right and spoils the diff.
template <typename Dtype>
using Mutation = std::function<void(Blob<Dtype>* blob)>;

/// The layer it is given, except that Backward then spoils one blob's diff.
template <typename Dtype>
class MutatedLayer : public Layer<Dtype> {
 public:
  MutatedLayer(
      Layer<Dtype>* layer, Blob<Dtype>* blob, const Mutation<Dtype>& mutation)
      : Layer<Dtype>(layer->layer_param()),
        layer_(layer),
        blob_(blob),
        mutation_(mutation) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override {
    layer_->SetUp(bottom, top);
    this->blobs_ = layer_->blobs();
  }
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override {
    layer_->Reshape(bottom, top);
  }

 protected:  // no *_gpu: the layer inside picks its own device
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override {
    layer_->Forward(bottom, top);
  }
  void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom) override {
    layer_->Backward(top, propagate_down, bottom);
    mutation_(blob_);
  }

 private:
  Layer<Dtype>* const layer_;
  Blob<Dtype>* const blob_;
  const Mutation<Dtype> mutation_;
};

/// While it lives, failures of this thread's EXPECTs are counted, not reported.
class FailureCounter : public ::testing::internal::HasNewFatalFailureHelper {
 public:
  void ReportTestPartResult(const ::testing::TestPartResult& result) override {
    count_ += result.failed();
  }
  int count() const { return count_; }

 private:
  int count_ = 0;
};

/// Central differences in float cannot do better than about 1e-3.
template <typename Dtype>
GradientChecker<Dtype> DefaultGradientChecker() {
  return sizeof(Dtype) == sizeof(float) ? GradientChecker<Dtype>(1e-2, 1e-3)
                                        : GradientChecker<Dtype>(1e-4, 1e-6);
}

/**
 * Expects the checker to fail if Backward spoils the diff of `blob`, which is
 * a parameter of the layer (check_bottom = -2) or bottom[check_bottom]. Tests
 * call it for the mistakes that only their layer could make, such as a term of
 * its formula left out; ExpectGradients() does so for those any layer could.
 */
template <typename Dtype>
void ExpectMutationIsCaught(const std::string& name,
    const Mutation<Dtype>& mutation, Blob<Dtype>* blob, Layer<Dtype>* layer,
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top,
    int check_bottom,
    GradientChecker<Dtype> checker = DefaultGradientChecker<Dtype>()) {
  MutatedLayer<Dtype> mutated(layer, blob, mutation);
  int failures;
  {
    FailureCounter counter;
    checker.CheckGradientExhaustive(&mutated, bottom, top, check_bottom);
    failures = counter.count();
  }
  EXPECT_GT(failures, 0) << "This gradient test cannot fail: it stays green "
                         << "with the gradient of " << name << ".";
}

/// Mutations for a loss whose two terms have gradients of opposite signs.
template <typename Dtype>
void DropPositive(Blob<Dtype>* blob) {
  Dtype* diff = blob->mutable_cpu_diff();
  std::transform(diff, diff + blob->count(), diff,
      [](Dtype g) { return std::min(g, Dtype(0)); });
}
template <typename Dtype>
void DropNegative(Blob<Dtype>* blob) {
  Dtype* diff = blob->mutable_cpu_diff();
  std::transform(diff, diff + blob->count(), diff,
      [](Dtype g) { return std::max(g, Dtype(0)); });
}

/// The mistakes that any layer could make: no gradient, wrong sign, 10 % off.
template <typename Dtype>
void ExpectScalingsAreCaught(const std::string& name, Blob<Dtype>* blob,
    Layer<Dtype>* layer, const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top, int check_bottom,
    const GradientChecker<Dtype>& checker) {
  for (const double factor : {0., -1., 1.1}) {
    ExpectMutationIsCaught<Dtype>(
        name + " times " + std::to_string(factor),
        [=](Blob<Dtype>* spoilt) { spoilt->scale_diff(factor); }, blob, layer,
        bottom, top, check_bottom, checker);
  }
}

/**
 * Expects the layer's gradients for the bottoms listed and for all parameters
 * to agree with central differences, and the comparison to fail for any of
 * them that is zero, has the wrong sign or is 10 % too large.
 */
template <typename Dtype>
void ExpectGradients(Layer<Dtype>* layer, const vector<Blob<Dtype>*>& bottom,
    const vector<Blob<Dtype>*>& top, const vector<int>& bottoms_to_check,
    GradientChecker<Dtype> checker = DefaultGradientChecker<Dtype>()) {
  const int kParametersOnly = -2, kAll = -1;
  for (const int i : bottoms_to_check) {  // one at a time: propagate_down
    checker.CheckGradientExhaustive(layer, bottom, top, i);
    ExpectScalingsAreCaught("bottom " + std::to_string(i), bottom[i], layer,
        bottom, top, i, checker);
  }
  if (!bottom.empty() && bottoms_to_check.size() == bottom.size()) {
    checker.CheckGradientExhaustive(layer, bottom, top, kAll);
  }
  layer->SetUp(bottom, top);  // without bottoms nothing has set it up yet
  if (!layer->blobs().empty()) {
    checker.CheckGradientExhaustive(layer, bottom, top, kParametersOnly);
  }
  for (int i = 0; i < layer->blobs().size(); ++i) {
    ExpectScalingsAreCaught("parameter " + std::to_string(i),
        layer->blobs()[i].get(), layer, bottom, top, kParametersOnly, checker);
  }
}

}  // namespace caffe

#endif  // TEST_GRADIENT_CHECK_HPP_
