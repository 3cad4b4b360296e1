#include "dnnl/dnnl_inner_product_layer.hpp"

#include <vector>

namespace caffe {

DnnlDesc DnnlInnerProductLayer::BottomDesc() const {
  return PlainDesc({M_, K_});
}

DnnlDesc DnnlInnerProductLayer::TopDesc() const { return PlainDesc({M_, N_}); }

DnnlDesc DnnlInnerProductLayer::WeightsDesc() const {
  const DnnlDims strides = transpose_ ? DnnlDims({1, N_}) : DnnlDims({K_, 1});
  return DnnlDesc({N_, K_}, dnnl::memory::data_type::f32, strides);
}

DnnlDesc DnnlInnerProductLayer::BiasDesc() const {
  return bias_term_ ? PlainDesc({N_}) : DnnlDesc();
}

DnnlInnerProductLayer::ForwardDesc DnnlInnerProductLayer::DescribeForward()
    const {
  return Describe<dnnl::inner_product_forward>(DnnlAttributes(),
      this->phase_ == TRAIN ? dnnl::prop_kind::forward_training
                            : dnnl::prop_kind::forward_inference,
      BottomDesc(), AnyDesc({N_, K_}), BiasDesc(), TopDesc());
}

const dnnl::memory& DnnlInnerProductLayer::ReorderedWeights(
    const DnnlDesc& desc, DnnlWeights* weights) {
  const Blob<float>& blob = *this->blobs_[0];
  const auto write = [&](const dnnl::memory& to) {
    Reorder(dnnl::memory(WeightsDesc(), DnnlEngine(),
                const_cast<float*>(blob.cpu_data())),
        to);
  };
  return weights->Get(
      blob.data(), desc, write, this->phase_ == TEST && !transpose_);
}

void DnnlInnerProductLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (bottom[0]->count() == 0) {
    InnerProductLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const ForwardDesc desc = DescribeForward();
  const DnnlInput input(bottom[0]->data(), {M_, K_}, BottomDesc());
  DnnlOutput output(top[0]->data(), TopDesc());
  DnnlArguments arguments = {{DNNL_ARG_SRC, input.memory()},
      {DNNL_ARG_WEIGHTS,
          ReorderedWeights(desc.weights_desc(), &forward_weights_)},
      {DNNL_ARG_DST, output.memory()}};
  if (bias_term_) {
    arguments.insert(
        {DNNL_ARG_BIAS, dnnl::memory(BiasDesc(), DnnlEngine(),
                            const_cast<float*>(this->blobs_[1]->cpu_data()))});
  }
  Run<dnnl::inner_product_forward>(desc, arguments);
  output.Finish();
}

void DnnlInnerProductLayer::Backward_cpu(const vector<Blob<float>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom) {
  if (bottom[0]->count() == 0) {
    InnerProductLayer<float>::Backward_cpu(top, propagate_down, bottom);
    return;
  }
  const ForwardDesc forward = DescribeForward();
  const DnnlInput top_diff(top[0]->diff(), {M_, N_}, TopDesc());
  const bool learns_bias = bias_term_ && this->param_propagate_down_[1];
  if (this->param_propagate_down_[0] || learns_bias) {
    const auto desc = DescribeBackward<dnnl::inner_product_backward_weights>(
        forward, BottomDesc(), AnyDesc({N_, K_}), BiasDesc(), TopDesc());
    const DnnlInput bottom_data(bottom[0]->data(), {M_, K_}, BottomDesc());
    const DnnlMemory weights(desc.diff_weights_desc());
    const DnnlMemory bias(PlainDesc({N_}));
    DnnlArguments arguments = {{DNNL_ARG_SRC, bottom_data.memory()},
        {DNNL_ARG_DIFF_DST, top_diff.memory()},
        {DNNL_ARG_DIFF_WEIGHTS, weights.memory()}};
    if (bias_term_) { arguments.insert({DNNL_ARG_DIFF_BIAS, bias.memory()}); }
    Run<dnnl::inner_product_backward_weights>(desc, arguments);
    if (this->param_propagate_down_[0]) {
      AddToDiff(weights.memory(), WeightsDesc(), this->blobs_[0].get());
    }
    if (learns_bias) {
      AddToDiff(bias.memory(), BiasDesc(), this->blobs_[1].get());
    }
  }
  if (propagate_down[0]) {
    const auto desc = DescribeBackward<dnnl::inner_product_backward_data>(
        forward, BottomDesc(), AnyDesc({N_, K_}), TopDesc());
    DnnlOutput bottom_diff(bottom[0]->diff(), BottomDesc());
    Run<dnnl::inner_product_backward_data>(desc,
        {{DNNL_ARG_DIFF_DST, top_diff.memory()},
            {DNNL_ARG_WEIGHTS,
                ReorderedWeights(desc.weights_desc(), &backward_weights_)},
            {DNNL_ARG_DIFF_SRC, bottom_diff.memory()}});
    bottom_diff.Finish();
  }
}

}  // namespace caffe
