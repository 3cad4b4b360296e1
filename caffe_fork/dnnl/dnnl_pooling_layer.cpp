#include "dnnl_pooling_layer.hpp"

#include <cstring>
#include <string>
#include <vector>

namespace caffe {

void DnnlPoolingLayer::Reshape(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  PoolingLayer<float>::Reshape(bottom, top);
  const DnnlDims dims = BlobDims(bottom[0]->shape());
  if (dims == bottom_) { return; }
  bottom_ = dims;
  top_ = BlobDims(top[0]->shape());
  kernel_ = {this->kernel_h_, this->kernel_w_};
  strides_ = {this->stride_h_, this->stride_w_};
  pads_ = {this->pad_h_, this->pad_w_};
  for (int i = 0; i < 2; ++i) {
    end_pads_.resize(2);
    end_pads_[i] = (top_[2 + i] - 1) * strides_[i] + kernel_[i] -
                   bottom_[2 + i] - pads_[i];
  }
  argmax_.reset();
  const string reason = WhyNotDnnl(bottom, top);
  use_caffe_ = !reason.empty();
  LOG_IF(INFO, use_caffe_) << "Layer " << this->layer_param_.name()
                           << ": engine CAFFE for " << bottom[0]->shape_string()
                           << ", as " << reason;
}

string DnnlPoolingLayer::WhyNotDnnl(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (bottom[0]->count() == 0) { return "there is nothing to pool"; }
  for (int i = 0; i < 2; ++i) {
    if (end_pads_[i] >= kernel_[i]) { return "a window has no pixel"; }
    if (!is_max() && has_pads() && end_pads_[i] > pads_[i]) {
      return "windows reach beyond the padding";
    }
  }
  try {
    const auto desc =
        DescribeForward(dnnl::prop_kind::forward_training, PlainDesc(bottom_));
    if (std::strstr(desc.impl_info_str(), "ref")) {
      return "oneDNN has no fast kernel";
    }
  } catch (const dnnl::error& error) {
    return string("oneDNN has no kernel: ") + error.what();
  }
  return "";
}

dnnl::algorithm DnnlPoolingLayer::algorithm() const {
  // Without padding, windows beyond the image count its pixels only.
  return is_max()     ? dnnl::algorithm::pooling_max
         : has_pads() ? dnnl::algorithm::pooling_avg_include_padding
                      : dnnl::algorithm::pooling_avg_exclude_padding;
}

DnnlPoolingForward::primitive_desc DnnlPoolingLayer::DescribeForward(
    dnnl::prop_kind kind, const DnnlDesc& bottom) const {
  return Describe<DnnlPoolingForward>(DnnlAttributes(), kind, algorithm(),
      bottom, AnyDesc(top_), strides_, kernel_, DnnlDims(2, 0), pads_,
      end_pads_);
}

void DnnlPoolingLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (use_caffe_) {
    PoolingLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const DnnlInput input(bottom[0]->data(), bottom[0]->shape());
  const bool is_training = this->phase_ == TRAIN;
  const auto desc =
      DescribeForward(is_training ? dnnl::prop_kind::forward_training
                                  : dnnl::prop_kind::forward_inference,
          input.desc());
  DnnlOutput output(top[0]->data(), desc.dst_desc());
  DnnlArguments arguments = {
      {DNNL_ARG_SRC, input.memory()}, {DNNL_ARG_DST, output.memory()}};
  if (is_training && is_max()) {
    if (!argmax_ || argmax_->memory().get_desc() != desc.workspace_desc()) {
      argmax_.reset(new DnnlMemory(desc.workspace_desc()));
    }
    arguments.insert({DNNL_ARG_WORKSPACE, argmax_->memory()});
  }
  Run<DnnlPoolingForward>(desc, arguments);
  output.Finish();
}

void DnnlPoolingLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (!propagate_down[0]) { return; }
  if (use_caffe_) {
    PoolingLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const DnnlInput bottom_data(bottom[0]->data(), bottom[0]->shape());
  const auto forward =
      DescribeForward(dnnl::prop_kind::forward_training, bottom_data.desc());
  shared_ptr<DnnlMemory> argmax = argmax_;
  if (is_max() &&
      (!argmax || argmax->memory().get_desc() != forward.workspace_desc())) {
    // Gradients in the TEST phase are rare: the forward pass keeps nothing.
    argmax.reset(new DnnlMemory(forward.workspace_desc()));
    const DnnlMemory again(forward.dst_desc());
    Run<DnnlPoolingForward>(forward,
        {{DNNL_ARG_SRC, bottom_data.memory()}, {DNNL_ARG_DST, again.memory()},
            {DNNL_ARG_WORKSPACE, argmax->memory()}});
  }
  const auto desc = DescribeBackward<DnnlPoolingBackward>(forward, algorithm(),
      bottom_data.desc(), forward.dst_desc(), strides_, kernel_, DnnlDims(2, 0),
      pads_, end_pads_);
  const DnnlInput top_diff(
      top[0]->diff(), top[0]->shape(), desc.diff_dst_desc());
  DnnlOutput bottom_diff(bottom[0]->diff(), desc.diff_src_desc());
  DnnlArguments arguments = {{DNNL_ARG_DIFF_DST, top_diff.memory()},
      {DNNL_ARG_DIFF_SRC, bottom_diff.memory()}};
  if (is_max()) { arguments.insert({DNNL_ARG_WORKSPACE, argmax->memory()}); }
  Run<DnnlPoolingBackward>(desc, arguments);
  bottom_diff.Finish();
}

}  // namespace caffe
