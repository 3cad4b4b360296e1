#include <string>

#include "caffe/layer_factory.hpp"
#include "dnnl_conv_layer.hpp"
#include "dnnl_inner_product_layer.hpp"
#include "dnnl_pooling_layer.hpp"
#include "dnnl_simple_layers.hpp"

namespace caffe {

namespace {

// Whether a layer's `engine` asks for DNNL, which is the default.
template <typename Param>
bool IsDnnl(const Param& param) {
  return param.engine() == Param::DEFAULT || param.engine() == Param::DNNL;
}

bool IsDnnlPooling(const LayerParameter& param) {
  return IsDnnl(param.pooling_param()) && param.top_size() < 2 &&
         param.pooling_param().pool() != PoolingParameter_PoolMethod_STOCHASTIC;
}

}  // namespace

template <>
shared_ptr<Layer<float> > CreateDnnlLayer<float>(const LayerParameter& param) {
  const string& type = param.type();
  Layer<float>* layer = nullptr;
  if (type == "Convolution" && IsDnnl(param.convolution_param())) {
    layer = new DnnlConvolutionLayer(param);
  } else if (type == "Pooling" && IsDnnlPooling(param)) {
    layer = new DnnlPoolingLayer(param);
  } else if (type == "ReLU" && IsDnnl(param.relu_param())) {
    layer = new DnnlReLULayer(param);
  } else if (type == "InnerProduct" && IsDnnl(param.inner_product_param())) {
    layer = new DnnlInnerProductLayer(param);
  } else if (type == "Eltwise" && IsDnnl(param.eltwise_param())) {
    layer = new DnnlEltwiseLayer(param);
  } else if (type == "Concat" && IsDnnl(param.concat_param())) {
    layer = new DnnlConcatLayer(param);
  } else if (type == "Dropout") {
    layer = new DnnlDropoutLayer(param);
  } else if (type == "Split") {
    layer = new DnnlSplitLayer(param);
  }
  return shared_ptr<Layer<float> >(layer);
}

// oneDNN has no kernels for double.
template <>
shared_ptr<Layer<double> > CreateDnnlLayer<double>(
    const LayerParameter& param) {
  Layer<double>* layer = nullptr;
  if (param.type() == "Convolution" && IsDnnl(param.convolution_param())) {
    layer = new ConvolutionLayer<double>(param);
  } else if (param.type() == "Pooling" && IsDnnl(param.pooling_param())) {
    layer = new PoolingLayer<double>(param);
  } else if (param.type() == "ReLU" && IsDnnl(param.relu_param())) {
    layer = new ReLULayer<double>(param);
  }
  return shared_ptr<Layer<double> >(layer);
}

}  // namespace caffe
