#include "dnnl_conv_layer.hpp"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "caffe/util/benchmark.hpp"
#include "caffe/util/math_functions.hpp"

namespace caffe {

namespace {

const dnnl::algorithm kDirect = dnnl::algorithm::convolution_direct;
const dnnl::algorithm kWinograd = dnnl::algorithm::convolution_winograd;

/// Winograd's transforms of large images take more memory than all else in a
/// net, and gain least there.
const size_t kMostScratch = 200 << 20;

/// Whether a kernel is the reference implementation, slower than Caffe's own.
template <typename PrimitiveDesc>
bool IsReference(const PrimitiveDesc& desc) {
  return std::strstr(desc.impl_info_str(), "ref") != nullptr;
}

/// Whether a kernel is neither that nor im2col with a matrix product.
template <typename PrimitiveDesc>
bool IsDirect(const PrimitiveDesc& desc) {
  return !IsReference(desc) && !std::strstr(desc.impl_info_str(), "gemm");
}

/// The first fast kernel among those that describe(layout of the bottom, layout
/// of the top) finds for the layouts that a convolution may read and write. In
/// the first place blocks of channels, so that all layers agree on them; few
/// channels, such as an image's, are best left as they are.
template <typename Describe>
auto FindKernel(const DnnlDims& bottom, const DnnlDims& top, Describe describe)
    -> decltype(describe(DnnlDesc(), DnnlDesc())) {
  if (bottom.size() == 4) {
    vector<DnnlDesc> bottoms;
    if (bottom[1] <= 4) { bottoms.push_back(PlainDesc(bottom)); }
    bottoms.push_back(BlockedDesc(bottom, 16));
    for (const DnnlDesc& desc : bottoms) {
      try {
        const auto kernel = describe(desc, BlockedDesc(top, 16));
        if (!IsReference(kernel)) { return kernel; }
      } catch (const dnnl::error&) {  // not in this layout
      }
    }
  }
  return describe(AnyDesc(bottom), AnyDesc(top));
}

// Move pixels between an image and its phases, both in blocks of channels. The
// phases of one image are d * d images in a row; what of them has no pixel in
// the image is zero, as if it were padding.
void CopyPhases(const DnnlDims& dims, int d, int block, bool split,
    const float* from, float* to) {
  const int height = dims[2], width = dims[3];
  const int phase_height = (height + d - 1) / d;
  const int phase_width = (width + d - 1) / d;
  const int blocks = (dims[1] + block - 1) / block;
#pragma omp parallel for collapse(4)
  for (int n = 0; n < dims[0]; ++n) {
    for (int phase_y = 0; phase_y < d; ++phase_y) {
      for (int phase_x = 0; phase_x < d; ++phase_x) {
        for (int c = 0; c < blocks; ++c) {
          const int phase = (n * d + phase_y) * d + phase_x;
          for (int i = 0; i < phase_height; ++i) {
            const int y = i * d + phase_y;
            for (int j = 0; j < phase_width; ++j) {
              const int x = j * d + phase_x;
              const bool is_inside = y < height && x < width;
              const size_t whole =
                  (((size_t(n) * blocks + c) * height + y) * width + x) * block;
              const size_t part =
                  (((size_t(phase) * blocks + c) * phase_height + i) *
                          phase_width +
                      j) *
                  block;
              if (!split && is_inside) {
                std::copy(from + part, from + part + block, to + whole);
              } else if (split && is_inside) {
                std::copy(from + whole, from + whole + block, to + part);
              } else if (split) {
                std::fill(to + part, to + part + block, 0.f);
              }
            }
          }
        }
      }
    }
  }
}

float* Data(const dnnl::memory& memory) {
  return static_cast<float*>(memory.get_data_handle());
}

/// The phases of an image, in the layout of their kernel.
shared_ptr<DnnlMemory> Split(const DnnlDims& dims, int d,
    const dnnl::memory& image, const DnnlDesc& desc) {
  const shared_ptr<DnnlMemory> phases(new DnnlMemory(desc));
  CopyPhases(dims, d, ChannelBlock(desc), true, Data(image), phases->data());
  return phases;
}

/// The layout of an image whose phases are in this layout.
DnnlDesc ImageDesc(const DnnlDims& dims, int d, const DnnlDesc& phases) {
  return d == 1 ? phases : BlockedDesc(dims, ChannelBlock(phases));
}

/// Whether there are blocks, so that an image has phases, or needs none.
bool HasPhases(int d, const DnnlDesc& bottom, const DnnlDesc& top) {
  const int block = ChannelBlock(bottom);
  return d == 1 || (block > 1 && block == ChannelBlock(top));
}

}  // namespace

DnnlConvolutionLayer::Geometry DnnlConvolutionLayer::Geometry::Phases(
    int d) const {
  Geometry phases = *this;
  if (d == 1) { return phases; }
  for (DnnlDims* dims : {&phases.bottom, &phases.top}) {
    (*dims)[0] *= d * d;
    (*dims)[2] = ((*dims)[2] + d - 1) / d;
    (*dims)[3] = ((*dims)[3] + d - 1) / d;
  }
  phases.dilations = DnnlDims(2, 0);
  phases.pads = {pads[0] / d, pads[1] / d};
  return phases;
}

DnnlConvolutionLayer::Geometry DnnlConvolutionLayer::Geometry::Mirrored()
    const {
  Geometry mirrored = *this;
  mirrored.bias.clear();
  std::swap(mirrored.bottom, mirrored.top);
  std::swap(mirrored.weights[0], mirrored.weights[1]);
  for (int i = 0; i < 2; ++i) {
    mirrored.pads[i] = (dilations[i] + 1) * (weights[2 + i] - 1) - pads[i];
  }
  return mirrored;
}

bool DnnlConvolutionLayer::Geometry::HasMirrored() const {
  return weights.size() == 4 && strides == DnnlDims(2, 1) &&
         Mirrored().pads[0] >= 0 && Mirrored().pads[1] >= 0;
}

bool DnnlConvolutionLayer::Geometry::IsForWinograd() const {
  const int dilation = dilations[0] + 1;
  return weights.size() == 4 && weights[2] == 3 && weights[3] == 3 &&
         strides == DnnlDims(2, 1) && dilations[0] == dilations[1] &&
         (dilation == 1 || pads == DnnlDims(2, dilation));
}

bool DnnlConvolutionLayer::Geometry::IsFastByWinograd() const {
  if (!IsForWinograd()) { return false; }
  const DnnlDims phase = Phases(dilations[0] + 1).top;
  return std::min(bottom[1], top[1]) >= 32 &&
         std::min(phase[2], phase[3]) >= 16;
}

void DnnlConvolutionLayer::Reshape(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  ConvolutionLayer<float>::Reshape(bottom, top);
  Geometry geometry;
  geometry.bottom = BlobDims(bottom[0]->shape());
  if (geometry.bottom == geometry_.bottom) { return; }
  geometry.top = BlobDims(top[0]->shape());
  geometry.weights = BlobDims(this->blobs_[0]->shape());
  if (this->group_ > 1) {
    geometry.weights[0] /= this->group_;
    geometry.weights.insert(geometry.weights.begin(), this->group_);
  }
  if (this->bias_term_) { geometry.bias.assign(1, this->num_output_); }
  for (int i = 0; i < this->num_spatial_axes_; ++i) {
    geometry.strides.push_back(this->stride_.cpu_data()[i]);
    geometry.dilations.push_back(this->dilation_.cpu_data()[i] - 1);
    geometry.pads.push_back(this->pad_.cpu_data()[i]);
  }
  geometry_ = geometry;
  forward_[0].reset();
  forward_[1].reset();
  backward_data_.reset();
  backward_weights_.reset();
  string reason = "the shape is not batch x channels x one to three axes";
  use_caffe_ = this->channel_axis_ != 1 || this->num_spatial_axes_ < 1 ||
               this->num_spatial_axes_ > 3 || bottom[0]->count() == 0 ||
               top[0]->count() == 0;
  if (!use_caffe_) {
    try {
      use_caffe_ = IsReference(DescribeForward(
          geometry_, dnnl::prop_kind::forward_training, kDirect, false));
      MakeBackward();
      use_caffe_ = use_caffe_ || IsReference(*backward_data_) ||
                   IsReference(backward_weights_->desc);
      reason = "oneDNN has no fast kernel";
    } catch (const dnnl::error& error) {
      use_caffe_ = true;
      reason = string("oneDNN has no kernel: ") + error.what();
    }
  }
  LOG_IF(INFO, use_caffe_) << "Layer " << this->layer_param_.name()
                           << ": engine CAFFE for " << bottom[0]->shape_string()
                           << ", as " << reason;
}

DnnlConvolutionLayer::ForwardDesc DnnlConvolutionLayer::DescribeForward(
    const Geometry& geometry, dnnl::prop_kind kind, dnnl::algorithm algorithm,
    bool fuse_relu) const {
  dnnl::primitive_attr attributes = DnnlAttributes();
  if (fuse_relu) {
    dnnl::post_ops relu;
#if DNNL_VERSION_MAJOR >= 3
    relu.append_eltwise(dnnl::algorithm::eltwise_relu, 0.f, 0.f);
#else
    relu.append_eltwise(1.f, dnnl::algorithm::eltwise_relu, 0.f, 0.f);
#endif
    attributes.set_post_ops(relu);
  }
  const DnnlDesc bias =
      geometry.bias.empty() ? DnnlDesc() : PlainDesc(geometry.bias);
  return FindKernel(geometry.bottom, geometry.top,
      [&](const DnnlDesc& bottom, const DnnlDesc& top) {
        return Describe<dnnl::convolution_forward>(attributes, kind, algorithm,
            bottom, AnyDesc(geometry.weights), bias, top, geometry.strides,
            geometry.dilations, geometry.pads, geometry.pads);
      });
}

DnnlConvolutionLayer::BackwardWeightsDesc
DnnlConvolutionLayer::DescribeBackwardWeights(
    const Geometry& geometry, dnnl::algorithm algorithm) const {
  const Geometry& g = geometry;
  const ForwardDesc forward =
      DescribeForward(g, dnnl::prop_kind::forward_training, algorithm, false);
  const DnnlDesc bias = g.bias.empty() ? DnnlDesc() : PlainDesc(g.bias);
  return FindKernel(
      g.bottom, g.top, [&](const DnnlDesc& bottom, const DnnlDesc& top) {
        return DescribeBackward<dnnl::convolution_backward_weights>(forward,
            algorithm, bottom, AnyDesc(g.weights), bias, top, g.strides,
            g.dilations, g.pads, g.pads);
      });
}

shared_ptr<DnnlConvolutionLayer::ForwardKernel>
DnnlConvolutionLayer::DirectForward(
    const Geometry& geometry, bool fuse_relu) const {
  const dnnl::prop_kind kind = this->phase_ == TRAIN
                                   ? dnnl::prop_kind::forward_training
                                   : dnnl::prop_kind::forward_inference;
  return shared_ptr<ForwardKernel>(new ForwardKernel(
      {geometry, 1, DescribeForward(geometry, kind, kDirect, fuse_relu)}));
}

shared_ptr<DnnlConvolutionLayer::ForwardKernel>
DnnlConvolutionLayer::WinogradForward(
    const Geometry& geometry, bool fuse_relu) const {
  shared_ptr<ForwardKernel> kernel;
  if (!geometry.IsForWinograd()) { return kernel; }
  const int d = geometry.dilations[0] + 1;
  try {
    // The transform of the weights takes four times their memory. Made in each
    // pass, as for training, it costs a few percent of the time only.
    kernel.reset(new ForwardKernel({geometry, d,
        DescribeForward(geometry.Phases(d), dnnl::prop_kind::forward_training,
            kWinograd, fuse_relu)}));
  } catch (const dnnl::error&) {  // as in oneDNN 3, which has no Winograd
    return kernel;
  }
  if (kernel->desc.scratchpad_desc().get_size() > kMostScratch ||
      !HasPhases(d, kernel->desc.src_desc(), kernel->desc.dst_desc())) {
    kernel.reset();
  }
  return kernel;
}

shared_ptr<DnnlConvolutionLayer::BackwardWeightsKernel>
DnnlConvolutionLayer::WinogradBackwardWeights() const {
  shared_ptr<BackwardWeightsKernel> kernel;
  if (!geometry_.IsForWinograd()) { return kernel; }
  const int d = geometry_.dilations[0] + 1;
  try {
    kernel.reset(new BackwardWeightsKernel({geometry_, d,
        DescribeBackwardWeights(geometry_.Phases(d), kWinograd)}));
  } catch (const dnnl::error&) { return kernel; }
  if (kernel->desc.scratchpad_desc().get_size() > kMostScratch ||
      !HasPhases(d, kernel->desc.src_desc(), kernel->desc.diff_dst_desc())) {
    kernel.reset();
  }
  return kernel;
}

shared_ptr<DnnlConvolutionLayer::ForwardKernel>
DnnlConvolutionLayer::ChooseForward() const {
  const bool is_training = this->phase_ == TRAIN;
  const shared_ptr<ForwardKernel> direct = DirectForward(geometry_, fuse_relu_);
  if (is_training && !geometry_.IsFastByWinograd()) { return direct; }
  const shared_ptr<ForwardKernel> winograd =
      WinogradForward(geometry_, fuse_relu_);
  return winograd && (is_training || IsFaster(*winograd, *direct)) ? winograd
                                                                   : direct;
}

bool DnnlConvolutionLayer::IsFaster(
    const ForwardKernel& winograd, const ForwardKernel& direct) const {
  // Layers of about the same shape share a choice: images of many sizes are not
  // timed each.
  static std::mutex mutex;
  static std::map<vector<int>, bool> choices;
  const auto rounded = [](int value) {
    return static_cast<int>(std::lround(2 * std::log2(value)));
  };
  const DnnlDims& bottom = geometry_.bottom;
  const vector<int> key = {rounded(bottom[0]), static_cast<int>(bottom[1]),
      rounded(bottom[2]), rounded(bottom[3]),
      static_cast<int>(geometry_.top[1]),
      static_cast<int>(geometry_.dilations[0]), omp_get_max_threads()};
  std::lock_guard<std::mutex> lock(mutex);
  if (choices.find(key) == choices.end()) {
    const double direct_time = Milliseconds(direct);
    const double winograd_time = Milliseconds(winograd);
    // It rounds more, and takes more memory.
    choices[key] = winograd_time < 0.8 * direct_time;
    LOG(INFO) << "Layer " << this->layer_param_.name() << ": " << direct_time
              << " ms by direct convolution, " << winograd_time
              << " ms by Winograd's algorithm";
  }
  return choices[key];
}

DnnlDesc DnnlConvolutionLayer::BottomDesc(const ForwardKernel& kernel) const {
  return ImageDesc(
      kernel.geometry.bottom, kernel.phases, kernel.desc.src_desc());
}

DnnlDesc DnnlConvolutionLayer::TopDesc(const ForwardKernel& kernel) const {
  return ImageDesc(kernel.geometry.top, kernel.phases, kernel.desc.dst_desc());
}

double DnnlConvolutionLayer::Milliseconds(const ForwardKernel& kernel) const {
  DnnlMemory weights(kernel.desc.weights_desc());
  DnnlMemory bottom(BottomDesc(kernel)), top(TopDesc(kernel));
  DnnlMemory bias(PlainDesc(DnnlDims(1, this->num_output_)));
  for (DnnlMemory* memory : {&weights, &bottom, &bias}) {
    std::fill(memory->data(), memory->data() + memory->count(), 0.f);
  }
  double fastest = 0;
  for (int run = 0; run < 4; ++run) {  // the first one warms up
    CPUTimer timer;
    timer.Start();
    RunForward(
        kernel, weights.memory(), bias.memory(), bottom.memory(), top.memory());
    const double milliseconds = timer.MicroSeconds() / 1000;
    if (run == 1 || (run > 1 && milliseconds < fastest)) {
      fastest = milliseconds;
    }
  }
  return fastest;
}

void DnnlConvolutionLayer::RunForward(const ForwardKernel& kernel,
    const dnnl::memory& weights, const dnnl::memory& bias,
    const dnnl::memory& bottom, const dnnl::memory& top) const {
  const auto run = [&](const dnnl::memory& from, const dnnl::memory& to) {
    DnnlArguments arguments = {
        {DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, to}};
    if (!kernel.geometry.bias.empty()) {
      arguments.insert({DNNL_ARG_BIAS, bias});
    }
    Run<dnnl::convolution_forward>(kernel.desc, arguments);
  };
  const int d = kernel.phases;
  if (d == 1) {
    run(bottom, top);
    return;
  }
  const shared_ptr<DnnlMemory> from =
      Split(kernel.geometry.bottom, d, bottom, kernel.desc.src_desc());
  const DnnlMemory to(kernel.desc.dst_desc());
  run(from->memory(), to.memory());
  CopyPhases(kernel.geometry.top, d, ChannelBlock(kernel.desc.dst_desc()),
      false, to.data(), Data(top));
}

const DnnlConvolutionLayer::ForwardKernel& DnnlConvolutionLayer::Forward() {
  shared_ptr<ForwardKernel>& kernel = forward_[fuse_relu_];
  if (!kernel) { kernel = ChooseForward(); }
  return *kernel;
}

shared_ptr<DnnlMemory> DnnlConvolutionLayer::MirroredWeights() const {
  // Of output n from input c, w becomes that of output c from input n, and its
  // taps change their order.
  DnnlDims dims = geometry_.weights;
  const int outputs = dims[0], inputs = dims[1], taps = dims[2] * dims[3];
  std::swap(dims[0], dims[1]);
  const shared_ptr<DnnlMemory> mirrored(new DnnlMemory(PlainDesc(dims)));
  const float* from = this->blobs_[0]->cpu_data();
  float* to = mirrored->data();
#pragma omp parallel for
  for (int c = 0; c < inputs; ++c) {
    for (int n = 0; n < outputs; ++n) {
      const float* tap = from + (size_t(n) * inputs + c) * taps;
      std::reverse_copy(tap, tap + taps, to + (size_t(c) * outputs + n) * taps);
    }
  }
  return mirrored;
}

const dnnl::memory& DnnlConvolutionLayer::ReorderedWeights(
    const DnnlDesc& desc, DnnlWeights* weights, bool mirror) {
  const Blob<float>& blob = *this->blobs_[0];
  const auto write = [&](const dnnl::memory& to) {
    if (mirror) {
      Reorder(MirroredWeights()->memory(), to);
    } else {
      Reorder(dnnl::memory(PlainDesc(geometry_.weights), DnnlEngine(),
                  const_cast<float*>(blob.cpu_data())),
          to);
    }
  };
  const bool free_others = this->phase_ == TEST && !mirror;
  return weights->Get(blob.data(), desc, write, free_others);
}

dnnl::memory DnnlConvolutionLayer::Bias() const {
  if (!this->bias_term_) { return dnnl::memory(); }
  return dnnl::memory(PlainDesc(geometry_.bias), DnnlEngine(),
      const_cast<float*>(this->blobs_[1]->cpu_data()));
}

void DnnlConvolutionLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (use_caffe_) {
    ConvolutionLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const ForwardKernel& kernel = Forward();
  const dnnl::memory& weights =
      ReorderedWeights(kernel.desc.weights_desc(), &forward_weights_, false);
  for (size_t i = 0; i < bottom.size(); ++i) {
    const DnnlInput input(
        bottom[i]->data(), bottom[i]->shape(), BottomDesc(kernel));
    DnnlOutput output(top[i]->data(), TopDesc(kernel));
    RunForward(kernel, weights, Bias(), input.memory(), output.memory());
    if (fuse_relu_) {
      output.FinishRectified();
    } else {
      output.Finish();
    }
  }
}

void DnnlConvolutionLayer::MakeBackward() {
  const Geometry& g = geometry_;
  const bool use_winograd = this->phase_ == TRAIN && g.IsFastByWinograd();
  if (use_winograd) { backward_weights_ = WinogradBackwardWeights(); }
  if (!backward_weights_) {
    backward_weights_.reset(
        new BackwardWeightsKernel({g, 1, DescribeBackwardWeights(g, kDirect)}));
  }
  const ForwardDesc forward =
      DescribeForward(g, dnnl::prop_kind::forward_training, kDirect, false);
  backward_data_.reset(new BackwardDataDesc(FindKernel(
      g.bottom, g.top, [&](const DnnlDesc& bottom, const DnnlDesc& top) {
        return DescribeBackward<dnnl::convolution_backward_data>(forward,
            kDirect, bottom, AnyDesc(g.weights), top, g.strides, g.dilations,
            g.pads, g.pads);
      })));
  mirrored_.reset();
  if (!g.HasMirrored()) { return; }
  if (use_winograd) { mirrored_ = WinogradForward(g.Mirrored(), false); }
  if (!mirrored_ && !IsDirect(*backward_data_)) {
    try {
      mirrored_ = DirectForward(g.Mirrored(), false);
    } catch (const dnnl::error&) { return; }
    if (!IsDirect(mirrored_->desc)) { mirrored_.reset(); }
  }
}

void DnnlConvolutionLayer::RunBackwardWeights(
    const Blob<float>& bottom, const Blob<float>& top) {
  const auto& kernel = *backward_weights_;
  const auto& desc = kernel.desc;
  const Geometry& g = kernel.geometry;
  const int d = kernel.phases;
  const DnnlInput bottom_data(
      bottom.data(), bottom.shape(), ImageDesc(g.bottom, d, desc.src_desc()));
  const DnnlInput top_diff(
      top.diff(), top.shape(), ImageDesc(g.top, d, desc.diff_dst_desc()));
  const DnnlMemory weights(desc.diff_weights_desc());
  const DnnlMemory bias(PlainDesc(DnnlDims(1, this->num_output_)));
  DnnlArguments arguments = {{DNNL_ARG_SRC, bottom_data.memory()},
      {DNNL_ARG_DIFF_DST, top_diff.memory()},
      {DNNL_ARG_DIFF_WEIGHTS, weights.memory()}};
  shared_ptr<DnnlMemory> bottom_phases, top_phases;
  if (d > 1) {
    bottom_phases = Split(g.bottom, d, bottom_data.memory(), desc.src_desc());
    top_phases = Split(g.top, d, top_diff.memory(), desc.diff_dst_desc());
    arguments[DNNL_ARG_SRC] = bottom_phases->memory();
    arguments[DNNL_ARG_DIFF_DST] = top_phases->memory();
  }
  if (this->bias_term_) { arguments[DNNL_ARG_DIFF_BIAS] = bias.memory(); }
  Run<dnnl::convolution_backward_weights>(desc, arguments);
  if (this->param_propagate_down_[0]) {
    AddToDiff(weights.memory(), PlainDesc(g.weights), this->blobs_[0].get());
  }
  if (this->bias_term_ && this->param_propagate_down_[1]) {
    AddToDiff(bias.memory(), PlainDesc(g.bias), this->blobs_[1].get());
  }
}

void DnnlConvolutionLayer::RunBackwardData(
    const Blob<float>& top, const Blob<float>& bottom) {
  const DnnlDesc top_desc =
      mirrored_ ? BottomDesc(*mirrored_) : backward_data_->diff_dst_desc();
  const DnnlDesc bottom_desc =
      mirrored_ ? TopDesc(*mirrored_) : backward_data_->diff_src_desc();
  const DnnlInput top_diff(top.diff(), top.shape(), top_desc);
  DnnlOutput bottom_diff(bottom.diff(), bottom_desc);
  if (mirrored_) {
    const dnnl::memory& weights = ReorderedWeights(
        mirrored_->desc.weights_desc(), &backward_data_weights_, true);
    RunForward(*mirrored_, weights, dnnl::memory(), top_diff.memory(),
        bottom_diff.memory());
  } else {
    const dnnl::memory& weights = ReorderedWeights(
        backward_data_->weights_desc(), &backward_data_weights_, false);
    Run<dnnl::convolution_backward_data>(*backward_data_,
        {{DNNL_ARG_DIFF_DST, top_diff.memory()}, {DNNL_ARG_WEIGHTS, weights},
            {DNNL_ARG_DIFF_SRC, bottom_diff.memory()}});
  }
  bottom_diff.Finish();
}

void DnnlConvolutionLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (use_caffe_) {
    ConvolutionLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const bool learns = this->param_propagate_down_[0] ||
                      (this->bias_term_ && this->param_propagate_down_[1]);
  for (size_t i = 0; i < top.size(); ++i) {
    if (learns) { RunBackwardWeights(*bottom[i], *top[i]); }
    if (propagate_down[i]) { RunBackwardData(*top[i], *bottom[i]); }
  }
}

}  // namespace caffe
