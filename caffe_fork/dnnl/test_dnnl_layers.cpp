#include <google/protobuf/text_format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "caffe/layer_factory.hpp"
#include "caffe/net.hpp"
#include "caffe/util/math_functions.hpp"
#include "gtest/gtest.h"

// The DNNL engine against Caffe's own, on layers and nets of random shapes. The
// shapes are the same in each run.

namespace caffe {

namespace {

const char kCaffe[] = "CAFFE";
const char kDnnl[] = "DNNL";

class Random {
 public:
  explicit Random(int seed) : engine_(seed) {}
  /// A number from first to last.
  int operator()(int first, int last) {
    return std::uniform_int_distribution<int>(first, last)(engine_);
  }
  bool Chance(int percent) { return (*this)(1, 100) <= percent; }
  void Fill(int count, float* values) {
    std::normal_distribution<float> normal;
    for (int i = 0; i < count; ++i) { values[i] = normal(engine_); }
  }

 private:
  std::mt19937 engine_;
};

LayerParameter ParseLayer(const string& text) {
  LayerParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &param)) << text;
  return param;
}

/// Of values that were summed in another order, or by Winograd's algorithm.
void ExpectClose(
    int count, const float* expected, const float* found, const string& what) {
  float largest = 1e-3, difference = 0;
  for (int i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - found[i]));
    ASSERT_TRUE(std::isfinite(found[i])) << what;
  }
  EXPECT_LE(difference, 3e-5 * largest) << what;
}

void ExpectClose(
    const Blob<float>& expected, const Blob<float>& found, const string& what) {
  ASSERT_EQ(expected.shape_string(), found.shape_string()) << what;
  ExpectClose(
      expected.count(), expected.cpu_data(), found.cpu_data(), what + ", data");
  ExpectClose(
      expected.count(), expected.cpu_diff(), found.cpu_diff(), what + ", diff");
}

/// A layer with its blobs, after a forward and a backward pass.
struct Passed {
  Passed(const LayerParameter& param, const vector<int>& shape, int seed)
      : layer(LayerRegistry<float>::CreateLayer(param)),
        bottom(shape),
        bottoms(1, &bottom),
        tops(1, &top) {
    layer->SetUp(bottoms, tops);
    Random any(seed);
    for (int pass = 0; pass < 2; ++pass) {  // the second one keeps all buffers
      any.Fill(bottom.count(), bottom.mutable_cpu_data());
      for (const auto& blob : layer->blobs()) {
        any.Fill(blob->count(), blob->mutable_cpu_data());
        any.Fill(blob->count(), blob->mutable_cpu_diff());
      }
      layer->Forward(bottoms, tops);
      any.Fill(top.count(), top.mutable_cpu_diff());
      layer->Backward(tops, vector<bool>(1, true), bottoms);
    }
  }
  shared_ptr<Layer<float> > layer;
  Blob<float> bottom, top;
  vector<Blob<float>*> bottoms, tops;
};

string ShapeText(const vector<int>& shape) {
  std::ostringstream text;
  for (int size : shape) { text << size << " "; }
  return text.str();
}

/// layer: the text of one, up to the engine and the bracket at its end.
void ExpectEnginesAgree(
    const string& layer, const vector<int>& shape, int seed) {
  const string what = layer + "} of " + ShapeText(shape);
  Passed expected(ParseLayer(layer + "engine: CAFFE }"), shape, seed);
  Passed found(ParseLayer(layer + "engine: DNNL }"), shape, seed);
  ExpectClose(expected.top, found.top, what + "top");
  ExpectClose(expected.bottom, found.bottom, what + "bottom");
  for (size_t i = 0; i < expected.layer->blobs().size(); ++i) {
    ExpectClose(*expected.layer->blobs()[i], *found.layer->blobs()[i],
        what + "parameter");
  }
}

}  // namespace

TEST(DnnlEngineTest, ThousandConvolutionsAgreeWithCaffe) {
  for (int seed = 0; seed < 1000; ++seed) {
    Random any(seed);
    const bool winograd = any.Chance(30);
    const int groups = winograd || any.Chance(70) ? 1 : any(2, 3);
    const int kernel_h = winograd ? 3 : any(1, 5);
    const int kernel_w = winograd ? 3 : any.Chance(70) ? kernel_h : any(1, 5);
    const int dilation = any.Chance(60) ? 1 : any.Chance(80) ? any(2, 4) : 12;
    const int least_size = winograd && dilation < 12 ? 16 * dilation : 1;
    const int stride = winograd || any.Chance(60) ? 1 : any(2, 4);
    const int pad = winograd ? dilation : any(0, 3);
    const int channels =
        groups * (any.Chance(winograd ? 70 : 30) ? 16 * any(1, 3) : any(1, 20));
    const int outputs =
        groups * (any.Chance(winograd ? 70 : 30) ? 16 * any(1, 3) : any(1, 20));
    const int height =
        std::max(least_size, dilation * (kernel_h - 1) + 1 - 2 * pad) +
        any(0, 20);
    const int width =
        std::max(least_size, dilation * (kernel_w - 1) + 1 - 2 * pad) +
        any(0, 20);
    std::ostringstream text;
    text << "type: 'Convolution' phase: " << (any.Chance(50) ? "TEST" : "TRAIN")
         << " convolution_param { num_output: " << outputs
         << " group: " << groups << " kernel_h: " << kernel_h
         << " kernel_w: " << kernel_w << " stride: " << stride
         << " dilation: " << dilation << " pad: " << pad
         << " bias_term: " << (any.Chance(80) ? "true" : "false") << " ";
    const vector<int> shape = {any(1, 3), channels, height, width};
    ExpectEnginesAgree(text.str(), shape, seed);
    if (HasFailure()) { return; }
  }
}

TEST(DnnlEngineTest, ConvolutionsOfAnyNumberOfAxesAgreeWithCaffe) {
  for (int seed = 0; seed < 100; ++seed) {
    Random any(seed);
    const int kernel = any(1, 3), pad = any(0, 2), groups = any(1, 2);
    std::ostringstream text;
    text << "type: 'Convolution' phase: " << (any.Chance(50) ? "TEST" : "TRAIN")
         << " convolution_param { num_output: " << groups * any(1, 40)
         << " group: " << groups << " kernel_size: " << kernel
         << " stride: " << any(1, 2) << " pad: " << pad << " ";
    vector<int> shape = {any(1, 3), groups * any(1, 40)};
    for (int axes = any(1, 3); axes > 0; --axes) {
      shape.push_back(std::max(1, kernel - 2 * pad) + any(0, 16));
    }
    ExpectEnginesAgree(text.str(), shape, seed);
    if (HasFailure()) { return; }
  }
}

TEST(DnnlEngineTest, ThousandPoolingsAgreeWithCaffe) {
  for (int seed = 0; seed < 1000; ++seed) {
    Random any(seed);
    const int kernel = any(1, 5), pad = any(0, kernel - 1);
    const int stride = any(1, kernel);  // or Caffe has windows of no pixel
    std::ostringstream text;
    text << "type: 'Pooling' phase: " << (any.Chance(50) ? "TEST" : "TRAIN")
         << " pooling_param { pool: " << (any.Chance(50) ? "MAX" : "AVE")
         << " kernel_size: " << kernel << " stride: " << stride
         << " pad: " << pad
         << " round_mode: " << (any.Chance(70) ? "CEIL " : "FLOOR ");
    const vector<int> shape = {any(1, 3), any(1, 40),
        std::max(1, kernel - pad) + any(0, 20),
        std::max(1, kernel - pad) + any(0, 20)};
    ExpectEnginesAgree(text.str(), shape, seed);
    if (HasFailure()) { return; }
  }
}

TEST(DnnlEngineTest, ThousandInnerProductsAgreeWithCaffe) {
  for (int seed = 0; seed < 1000; ++seed) {
    Random any(seed);
    vector<int> shape(any(2, 4));
    for (int& size : shape) { size = any(1, 6); }
    if (any.Chance(50)) { shape[1] = 16 * any(1, 3); }
    std::ostringstream text;
    text << "type: 'InnerProduct' phase: "
         << (any.Chance(50) ? "TEST" : "TRAIN")
         << " inner_product_param { num_output: " << any(1, 40)
         << " axis: " << (any.Chance(70) ? 1 : any(0, shape.size() - 1))
         << " transpose: " << (any.Chance(30) ? "true" : "false")
         << " bias_term: " << (any.Chance(80) ? "true " : "false ");
    ExpectEnginesAgree(text.str(), shape, seed);
    if (HasFailure()) { return; }
  }
}

// Nets of random layers, each with a random engine, so that blobs go from one
// engine to the other in every way.
TEST(DnnlEngineTest, NetsOfMixedEnginesAgreeWithCaffe) {
  for (int seed = 0; seed < 100; ++seed) {
    Random any(seed);
    std::ostringstream caffe_text, mixed_text;
    const auto add = [&](const string& text) {
      caffe_text << text;
      mixed_text << text;
    };
    const auto add_engine = [&] {
      caffe_text << " engine: CAFFE } }\n";
      mixed_text << " engine: " << (any.Chance(80) ? kDnnl : kCaffe)
                 << " } }\n";
    };
    std::ostringstream shape;
    shape << "{ dim: " << any(1, 2) << " dim: " << any(1, 20)
          << " dim: " << any(8, 15) << " dim: " << any(8, 15) << " }";
    add("force_backward: true layer { name: 'input' type: 'Input' top: 'data' "
        "input_param { shape " +
        shape.str() + " } }\n");
    vector<string> blobs(1, "data");
    for (int i = 0; i < 12; ++i) {
      const string bottom = blobs[any(0, blobs.size() - 1)];
      const string top = "blob" + std::to_string(i);
      const string head = "layer { name: '" + top + "' bottom: '" + bottom +
                          "' top: '" + top + "' ";
      const string in_place = "layer { name: 'in_place" + top + "' bottom: '" +
                              top + "' top: '" + top + "' ";
      switch (any(0, 5)) {
        case 0:
          add(head + "type: 'Pooling' pooling_param { kernel_size: 3 pad: 1 " +
              "pool: " + (any.Chance(50) ? "MAX" : "AVE"));
          add_engine();
          break;
        case 1:
          add(head + "bottom: '" + blobs.back() +
              "' type: 'Concat' concat_param { ");
          add_engine();
          break;
        case 2:
          add(head + "type: 'ReLU' relu_param { negative_slope: " +
              (any.Chance(50) ? "0.1" : "0"));
          add_engine();
          break;
        case 3:
          add("layer { name: 'pooled" + top + "' bottom: '" + bottom +
              "' top: 'pooled" + top + "' type: 'Pooling' pooling_param { " +
              "global_pooling: true ");
          add_engine();
          add("layer { name: 'product" + top + "' bottom: 'pooled" + top +
              "' top: 'product" + top + "' type: 'InnerProduct' " +
              "inner_product_param { num_output: 5 ");
          add_engine();
          continue;
        default:
          add(head + "type: 'Convolution' convolution_param { kernel_size: 3 " +
              "pad: 1 num_output: " +
              std::to_string(any.Chance(50) ? 16 : any(1, 20)) + " ");
          add_engine();
          if (any.Chance(50)) {
            add(in_place + "type: 'ReLU' relu_param { ");
            add_engine();
          }
          if (any.Chance(30)) {
            add("layer { name: 'twice" + top + "' bottom: '" + top +
                "' bottom: '" + top + "' top: 'twice" + top +
                "' type: 'Eltwise' eltwise_param { coeff: 0.5 coeff: 2 ");
            add_engine();
            blobs.push_back("twice" + top);
          }
      }
      blobs.push_back(top);
    }
    const bool is_test = any.Chance(50);
    vector<shared_ptr<Net<float> > > nets;
    for (const string& text : {caffe_text.str(), mixed_text.str()}) {
      NetParameter param;
      ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &param))
          << text;
      param.mutable_state()->set_phase(is_test ? TEST : TRAIN);
      nets.emplace_back(new Net<float>(param));
    }
    for (int pass = 0; pass < 3; ++pass) {
      for (const auto& net : nets) {
        Random values(seed + pass);
        Blob<float>* data = net->input_blobs()[0];
        if (pass == 2) { data->Reshape(2, data->channels(), 17, 9); }
        values.Fill(data->count(), data->mutable_cpu_data());
        for (const auto& blob : net->params()) {
          values.Fill(blob->count(), blob->mutable_cpu_data());
          blob->scale_data(0.1f);
        }
        net->Forward();
        for (Blob<float>* blob : net->output_blobs()) {
          values.Fill(blob->count(), blob->mutable_cpu_diff());
        }
        net->ClearParamDiffs();
        net->Backward();
      }
      for (const string& blob : nets[0]->blob_names()) {
        ExpectClose(*nets[0]->blob_by_name(blob), *nets[1]->blob_by_name(blob),
            "blob " + blob + " of " + mixed_text.str());
      }
      for (size_t i = 0; i < nets[0]->params().size(); ++i) {
        ExpectClose(*nets[0]->params()[i], *nets[1]->params()[i],
            "parameter of " + mixed_text.str());
      }
      if (HasFailure()) { return; }
    }
  }
}

namespace {

const char kTwoConvolutions[] =
    "layer { name: 'input' type: 'Input' top: 'data' input_param { shape { "
    "dim: 1 dim: 3 dim: 20 dim: 20 } } } "
    "layer { name: 'first' type: 'Convolution' bottom: 'data' top: 'first' "
    "convolution_param { num_output: 16 kernel_size: 3 pad: 1 "
    "weight_filler { type: 'msra' } } } "
    "layer { name: 'relu' type: 'ReLU' bottom: 'first' top: 'first' } "
    "layer { name: 'second' type: 'Convolution' bottom: 'first' top: 'second' "
    "convolution_param { num_output: 16 kernel_size: 3 pad: 1 "
    "weight_filler { type: 'msra' } } } ";

shared_ptr<Net<float> > MakeNet(const string& text) {
  NetParameter param;
  CHECK(google::protobuf::TextFormat::ParseFromString(text, &param));
  param.mutable_state()->set_phase(TEST);
  shared_ptr<Net<float> > net(new Net<float>(param));
  Random any(1);
  Blob<float>* data = net->input_blobs()[0];
  any.Fill(data->count(), data->mutable_cpu_data());
  return net;
}

vector<float> Values(const Blob<float>& blob) {
  return vector<float>(blob.cpu_data(), blob.cpu_data() + blob.count());
}

}  // namespace

TEST(DnnlEngineTest, PassesThatEndBeforeTheReLUShowWhatComesBeforeIt) {
  const auto net = MakeNet(kTwoConvolutions);
  const Blob<float>& first = *net->blob_by_name("first");
  net->ForwardTo(1);
  const vector<float> before = Values(first);
  EXPECT_LT(*std::min_element(before.begin(), before.end()), 0);
  net->ForwardTo(2);
  vector<float> rectified = before;
  for (float& value : rectified) { value = std::max(value, 0.f); }
  EXPECT_EQ(rectified, Values(first));
  net->Forward();
  EXPECT_EQ(rectified, Values(first));
}

// Large enough for Winograd's algorithm, whole or in phases; thus too large for
// one difference quotient per value. A convolution is linear in its bottom and
// in its parameters: the quotients in random directions are exact.
TEST(DnnlEngineTest, GradientsOfLargeConvolutions) {
  for (int dilation : {1, 2}) {
    const string d = std::to_string(dilation);
    const shared_ptr<Layer<float> > layer =
        LayerRegistry<float>::CreateLayer(ParseLayer(
            "type: 'Convolution' phase: TRAIN convolution_param { "
            "num_output: 32 kernel_size: 3 engine: DNNL pad: " +
            d + " dilation: " + d + " weight_filler { type: 'msra' } }"));
    Blob<float> bottom(2, 32, 35, 37), top;
    const vector<Blob<float>*> bottoms(1, &bottom), tops(1, &top);
    Random any(dilation);
    any.Fill(bottom.count(), bottom.mutable_cpu_data());
    layer->SetUp(bottoms, tops);
    vector<float> top_diff(top.count());
    any.Fill(top.count(), top_diff.data());
    const auto loss = [&] {
      layer->Forward(bottoms, tops);
      return std::inner_product(
          top_diff.begin(), top_diff.end(), top.cpu_data(), 0.);
    };
    loss();
    std::copy(top_diff.begin(), top_diff.end(), top.mutable_cpu_diff());
    for (const auto& blob : layer->blobs()) {
      caffe_set(blob->count(), 0.f, blob->mutable_cpu_diff());
    }
    layer->Backward(tops, vector<bool>(1, true), bottoms);

    vector<Blob<float>*> inputs(bottoms);
    for (const auto& blob : layer->blobs()) { inputs.push_back(blob.get()); }
    for (Blob<float>* input : inputs) {
      const int count = input->count();
      const vector<float> diff(input->cpu_diff(), input->cpu_diff() + count);
      const double norm = std::sqrt(
          std::inner_product(diff.begin(), diff.end(), diff.begin(), 0.));
      ASSERT_GT(norm, 0);
      for (int i = 0; i < 5; ++i) {
        vector<float> direction(count);
        any.Fill(count, direction.data());
        caffe_axpy(count, 1.f, direction.data(), input->mutable_cpu_data());
        const double after = loss();
        caffe_axpy(count, -1.f, direction.data(), input->mutable_cpu_data());
        EXPECT_NEAR(after - loss(),
            std::inner_product(diff.begin(), diff.end(), direction.begin(), 0.),
            1e-5 * norm);
      }
    }
  }
}

TEST(DnnlEngineTest, NewWeightsAreSeenInTheNextPass) {
  const auto net = MakeNet(kTwoConvolutions);
  net->Forward();
  const Blob<float>& second = *net->blob_by_name("second");
  const vector<float> once = Values(second);
  net->layer_by_name("second")->blobs()[0]->scale_data(2);
  net->Forward();
  for (size_t i = 0; i < once.size(); ++i) {
    ASSERT_FLOAT_EQ(2 * once[i], second.cpu_data()[i]);
  }
}

TEST(DnnlEngineTest, AKeptPointerToWeightsIsSeenInEveryPass) {
  const auto net = MakeNet(kTwoConvolutions);
  Blob<float>* weights = net->layer_by_name("second")->blobs()[0].get();
  weights->data()->keep_cpu_data();
  float* kept = weights->mutable_cpu_data();
  for (int pass = 0; pass < 3; ++pass) {
    std::fill(kept, kept + weights->count(), 0.f);
    net->Forward();
    EXPECT_EQ(0, net->blob_by_name("second")->asum_data());
    kept[0] = 1;
    net->Forward();
    EXPECT_NE(0, net->blob_by_name("second")->asum_data());
  }
}

TEST(DnnlEngineTest, AKeptPointerToABlobShowsEveryPass) {
  const auto net = MakeNet(kTwoConvolutions);
  Blob<float>* first = net->blob_by_name("first").get();
  first->data()->keep_cpu_data();
  const float* kept = first->cpu_data();
  net->Forward();
  const vector<float> once(kept, kept + first->count());
  EXPECT_EQ(Values(*first), once);
  net->input_blobs()[0]->scale_data(2);
  net->Forward();
  for (size_t i = 0; i < once.size(); ++i) {
    ASSERT_FLOAT_EQ(2 * once[i], kept[i]);
  }
}

TEST(DnnlEngineTest, SharedActivationsGiveTheSameOutputs) {
  const auto net = MakeNet(kTwoConvolutions);
  const auto sharing =
      MakeNet(string("share_activations: true ") + kTwoConvolutions);
  for (size_t i = 0; i < net->params().size(); ++i) {
    sharing->params()[i]->CopyFrom(*net->params()[i]);
  }
  for (int pass = 0; pass < 2; ++pass) {
    net->Forward();
    sharing->Forward();
    EXPECT_EQ(Values(*net->blob_by_name("second")),
        Values(*sharing->blob_by_name("second")));
    EXPECT_EQ(Values(*net->blob_by_name("data")),
        Values(*sharing->blob_by_name("data")));
  }
  EXPECT_DEATH(sharing->blob_by_name("first")->cpu_data(),
      "remove share_activations: true");
}

}  // namespace caffe
