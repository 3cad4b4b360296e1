#include "dnnl/dnnl_inner_product_layer.hpp"

#include <vector>

namespace caffe {

namespace {

DnnlDesc BottomDesc(const vector<int>& shape) {
  return shape.size() == 4 ? BlockedDesc(BlobDims(shape), 16)
                           : PlainDesc(BlobDims(shape));
}

}  // namespace

vector<int> DnnlInnerProductLayer::BottomShape(
    const Blob<float>& bottom) const {
  const bool has_blocks = bottom.num_axes() == 4 && bottom.shape(0) == M_ &&
                          bottom.shape(1) % 16 == 0 && !transpose_;
  return has_blocks ? bottom.shape() : vector<int>({M_, K_});
}

DnnlDesc DnnlInnerProductLayer::WeightsDesc(
    const vector<int>& bottom_shape) const {
  DnnlDims dims = BlobDims(bottom_shape);
  dims[0] = N_;
  return transpose_ ? DnnlDesc(dims, dnnl::memory::data_type::f32, {1, N_})
                    : PlainDesc(dims);
}

DnnlDesc DnnlInnerProductLayer::BiasDesc() const {
  return bias_term_ ? PlainDesc({N_}) : DnnlDesc();
}

DnnlInnerProductLayer::ForwardDesc DnnlInnerProductLayer::DescribeForward(
    const vector<int>& bottom_shape) const {
  return Describe<dnnl::inner_product_forward>(DnnlAttributes(),
      this->phase_ == TRAIN ? dnnl::prop_kind::forward_training
                            : dnnl::prop_kind::forward_inference,
      BottomDesc(bottom_shape), AnyDesc(Dims(WeightsDesc(bottom_shape))),
      BiasDesc(), PlainDesc({M_, N_}));
}

const dnnl::memory& DnnlInnerProductLayer::ReorderedWeights(
    const vector<int>& bottom_shape, const DnnlDesc& desc,
    DnnlWeights* weights) {
  const Blob<float>& blob = *this->blobs_[0];
  const auto write = [&](const dnnl::memory& to) {
    Reorder(dnnl::memory(WeightsDesc(bottom_shape), DnnlEngine(),
                const_cast<float*>(blob.cpu_data())),
        to);
  };
  return weights->Get(
      blob.data(), desc, write, this->phase_ == TEST && !transpose_);
}

void DnnlInnerProductLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  const vector<int> shape = BottomShape(*bottom[0]);
  if (bottom[0]->count() == 0) {
    InnerProductLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const ForwardDesc desc = DescribeForward(shape);
  const DnnlInput input(bottom[0]->data(), shape, desc.src_desc());
  DnnlOutput output(top[0]->data(), desc.dst_desc());
  DnnlArguments arguments = {{DNNL_ARG_SRC, input.memory()},
      {DNNL_ARG_WEIGHTS,
          ReorderedWeights(shape, desc.weights_desc(), &forward_weights_)},
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
  const vector<int> shape = BottomShape(*bottom[0]);
  const ForwardDesc forward = DescribeForward(shape);
  const DnnlDesc bottom_desc = BottomDesc(shape),
                 top_desc = PlainDesc({M_, N_});
  const DnnlDesc any_weights = AnyDesc(Dims(WeightsDesc(shape)));
  const DnnlInput top_diff(top[0]->diff(), {M_, N_}, top_desc);
  const bool learns_bias = bias_term_ && this->param_propagate_down_[1];
  if (this->param_propagate_down_[0] || learns_bias) {
    const auto desc = DescribeBackward<dnnl::inner_product_backward_weights>(
        forward, bottom_desc, any_weights, BiasDesc(), top_desc);
    const DnnlInput bottom_data(bottom[0]->data(), shape, bottom_desc);
    const DnnlMemory weights(desc.diff_weights_desc());
    const DnnlMemory bias(PlainDesc({N_}));
    DnnlArguments arguments = {{DNNL_ARG_SRC, bottom_data.memory()},
        {DNNL_ARG_DIFF_DST, top_diff.memory()},
        {DNNL_ARG_DIFF_WEIGHTS, weights.memory()}};
    if (bias_term_) { arguments.insert({DNNL_ARG_DIFF_BIAS, bias.memory()}); }
    Run<dnnl::inner_product_backward_weights>(desc, arguments);
    if (this->param_propagate_down_[0]) {
      ReorderAndAdd(
          weights.memory(), dnnl::memory(WeightsDesc(shape), DnnlEngine(),
                                this->blobs_[0]->mutable_cpu_diff()));
    }
    if (learns_bias) {
      ReorderAndAdd(bias.memory(), dnnl::memory(PlainDesc({N_}), DnnlEngine(),
                                       this->blobs_[1]->mutable_cpu_diff()));
    }
  }
  if (propagate_down[0]) {
    const auto desc = DescribeBackward<dnnl::inner_product_backward_data>(
        forward, bottom_desc, any_weights, top_desc);
    DnnlOutput bottom_diff(bottom[0]->diff(), bottom_desc);
    Run<dnnl::inner_product_backward_data>(desc,
        {{DNNL_ARG_DIFF_DST, top_diff.memory()},
            {DNNL_ARG_WEIGHTS, ReorderedWeights(shape, desc.weights_desc(),
                                   &backward_weights_)},
            {DNNL_ARG_DIFF_SRC, bottom_diff.memory()}});
    bottom_diff.Finish();
  }
}

}  // namespace caffe
