#include "dnnl_inner_product_layer.hpp"

#include <vector>

namespace caffe {

void DnnlInnerProductLayer::Forward_cpu(
    const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top) {
  if (this->phase_ == TRAIN || bottom[0]->count() == 0) {
    InnerProductLayer<float>::Forward_cpu(bottom, top);
    return;
  }
  const DnnlDesc bottom_desc = PlainDesc({M_, K_});
  const DnnlDesc top_desc = PlainDesc({M_, N_});
  const DnnlDesc bias_desc = bias_term_ ? PlainDesc({N_}) : DnnlDesc();
  const auto desc = Describe<dnnl::inner_product_forward>(DnnlAttributes(),
      dnnl::prop_kind::forward_inference, bottom_desc, AnyDesc({N_, K_}),
      bias_desc, top_desc);
  const DnnlInput input(bottom[0]->data(), {M_, K_}, bottom_desc);
  DnnlOutput output(top[0]->data(), top_desc);
  DnnlArguments arguments = {{DNNL_ARG_SRC, input.memory()},
      {DNNL_ARG_WEIGHTS, ReorderedWeights(desc.weights_desc())},
      {DNNL_ARG_DST, output.memory()}};
  if (bias_term_) {
    arguments.insert(
        {DNNL_ARG_BIAS, dnnl::memory(bias_desc, DnnlEngine(),
                            const_cast<float*>(this->blobs_[1]->cpu_data()))});
  }
  Run<dnnl::inner_product_forward>(desc, arguments);
  output.Finish();
}

const dnnl::memory& DnnlInnerProductLayer::ReorderedWeights(
    const DnnlDesc& desc) {
  const Blob<float>& blob = *this->blobs_[0];
  const auto write = [&](const dnnl::memory& to) {
    const DnnlDesc caffe_desc({N_, K_}, dnnl::memory::data_type::f32,
        transpose_ ? DnnlDims({1, N_}) : DnnlDims({K_, 1}));
    Reorder(dnnl::memory(
                caffe_desc, DnnlEngine(), const_cast<float*>(blob.cpu_data())),
        to);
  };
  // What Caffe frees it gets back in the order of N x K.
  return weights_.Get(blob.data(), desc, write, !transpose_);
}

}  // namespace caffe
