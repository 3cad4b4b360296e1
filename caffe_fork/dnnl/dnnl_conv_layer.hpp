#ifndef GCRF_DNNL_CONV_LAYER_HPP_
#define GCRF_DNNL_CONV_LAYER_HPP_

#include <vector>

#include "caffe/layers/conv_layer.hpp"
#include "dnnl_memory.hpp"

namespace caffe {

/**
 * @brief ConvolutionLayer on oneDNN's kernels.
 *
 * The same blobs, parameters and results up to rounding, without a column
 * buffer. There are two algorithms:
 *   - direct convolution;
 *   - Winograd's, for 3 x 3 kernels without stride: fewer products, but memory
 *     for its transforms, and more rounding (docs/decisions.md). Where dilated,
 *     it runs over the d x d phases of the image: the pixels (y, x) of equal
 *     y % d and x % d are a smaller image, under a convolution that is not
 *     dilated.
 * In the TEST phase each shape is computed by the faster one, as timed in its
 * first forward pass. In the TRAIN phase a rule decides, for the gradients too,
 * so that the same seed gives the same weights.
 * An in-place ReLU that follows in the net is part of the forward pass.
 *
 * Where oneDNN has no fast kernel, the layer is Caffe's own, and says so.
 */
class DnnlConvolutionLayer : public ConvolutionLayer<float> {
 public:
  explicit DnnlConvolutionLayer(const LayerParameter& param)
      : ConvolutionLayer<float>(param), fuse_relu_(false), use_caffe_(false) {}
  virtual void Reshape(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void set_fuse_relu(const bool fuse) { fuse_relu_ = fuse; }

 protected:
  virtual void Forward_cpu(
      const vector<Blob<float>*>& bottom, const vector<Blob<float>*>& top);
  virtual void Backward_cpu(const vector<Blob<float>*>& top,
      const vector<bool>& propagate_down, const vector<Blob<float>*>& bottom);

 private:
  typedef dnnl::convolution_forward::primitive_desc ForwardDesc;
  typedef dnnl::convolution_backward_data::primitive_desc BackwardDataDesc;
  typedef dnnl::convolution_backward_weights::primitive_desc
      BackwardWeightsDesc;

  struct Geometry {
    DnnlDims bottom, weights, bias, top, strides, dilations, pads;

    /// Of the d x d phases, d being the dilation.
    Geometry Phases(int d) const;
    /// Of the bottom's gradient as a convolution of the top's gradient, with
    /// mirrored weights.
    Geometry Mirrored() const;
    bool HasMirrored() const;
    bool IsForWinograd() const;
    /// By a rule that errs on the side of direct convolution.
    bool IsFastByWinograd() const;
  };

  /// A kernel for an image, or for its d x d phases.
  template <typename Desc>
  struct Kernel {
    Geometry geometry;  // of the image
    int phases;         // d, or 1
    Desc desc;
  };
  typedef Kernel<ForwardDesc> ForwardKernel;
  typedef Kernel<BackwardWeightsDesc> BackwardWeightsKernel;

  ForwardDesc DescribeForward(const Geometry& geometry, dnnl::prop_kind kind,
      dnnl::algorithm algorithm, bool fuse_relu) const;
  BackwardWeightsDesc DescribeBackwardWeights(
      const Geometry& geometry, dnnl::algorithm algorithm) const;
  shared_ptr<ForwardKernel> DirectForward(
      const Geometry& geometry, bool fuse_relu) const;
  /// By Winograd's algorithm; none where it is not for this convolution.
  shared_ptr<ForwardKernel> WinogradForward(
      const Geometry& geometry, bool fuse_relu) const;
  shared_ptr<BackwardWeightsKernel> WinogradBackwardWeights() const;
  shared_ptr<ForwardKernel> ChooseForward() const;
  bool IsFaster(
      const ForwardKernel& winograd, const ForwardKernel& direct) const;
  const ForwardKernel& Forward();
  void MakeBackward();

  /// The layouts of the blobs: phases are taken of an image in blocks.
  DnnlDesc BottomDesc(const ForwardKernel& kernel) const;
  DnnlDesc TopDesc(const ForwardKernel& kernel) const;

  void RunForward(const ForwardKernel& kernel, const dnnl::memory& weights,
      const dnnl::memory& bias, const dnnl::memory& bottom,
      const dnnl::memory& top) const;
  double Milliseconds(const ForwardKernel& kernel) const;
  void RunBackwardWeights(const Blob<float>& bottom, const Blob<float>& top);
  void RunBackwardData(const Blob<float>& top, const Blob<float>& bottom);

  shared_ptr<DnnlMemory> MirroredWeights() const;
  const dnnl::memory& ReorderedWeights(
      const DnnlDesc& desc, DnnlWeights* weights, bool mirror);
  dnnl::memory Bias() const;

  Geometry geometry_;
  bool fuse_relu_;
  bool use_caffe_;
  shared_ptr<ForwardKernel> forward_[2];  // without and with ReLU
  DnnlWeights forward_weights_;
  shared_ptr<BackwardWeightsKernel> backward_weights_;
  shared_ptr<BackwardDataDesc> backward_data_;
  shared_ptr<ForwardKernel> mirrored_;  // instead of backward_data_
  DnnlWeights backward_data_weights_;
};

}  // namespace caffe

#endif  // GCRF_DNNL_CONV_LAYER_HPP_
