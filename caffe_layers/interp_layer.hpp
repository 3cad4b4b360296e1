#ifndef INTERP_LAYER_HPP_
#define INTERP_LAYER_HPP_

#include <algorithm>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

/**
 * @brief Bilinear interpolation that keeps the corner pixels in the corners.
 * Along each axis, of H pixels before and H' after, output pixel y' lies at
 * @f[ y = y' (H - 1) / (H' - 1) @f], or at 0 if H' = 1                   (a)
 * @f[ t(y') = (1 - f) b(i) + f b(i + 1), \quad i = \lfloor y \rfloor,
 *     f = y - i @f]                                                      (b)
 * Backward is the transpose. This is the Interp layer of DeepLab, but stricter.
 * @param bottom (length 1)
 *   -# @f$ (N \times C \times H \times W) @f$ any values
 * @param top (length 1)
 *   -# @f$ (N \times C \times H' \times W') @f$, not the bottom itself
 * interp_param, exactly one of
 *   - zoom_factor, >= 1: H' = (H - 1) * zoom_factor + 1
 *   - shrink_factor f, >= 1: H' = (H - 1) / f + 1, every f-th pixel, so that
 *     label maps stay label maps. H and W must be f k + 1, while DeepLab's
 *     layer interpolates at other sizes.
 *   - height and width, >= 1: H' and W'
 */
template <typename Dtype>
class InterpLayer : public Layer<Dtype> {
 public:
  explicit InterpLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;

  const char* type() const override { return "Interp"; }
  int ExactNumBottomBlobs() const override { return 1; }
  int ExactNumTopBlobs() const override { return 1; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom) override;
  void Forward_gpu(const vector<Blob<Dtype>*>& bottom,
      const vector<Blob<Dtype>*>& top) override;
  void Backward_gpu(const vector<Blob<Dtype>*>& top,
      const vector<bool>& propagate_down,
      const vector<Blob<Dtype>*>& bottom) override;

  /// One axis: where the top's pixels lie in the cells between the bottom's.
  struct Axis {
    void Reshape(int new_bottom_size, int new_top_size);
    /// Makes a line of the top from one of the bottom.
    void Stretch(const Dtype* b, vector<Dtype>* line) const;
    /// Its transpose: a line of the bottom's diff from one of the top's.
    void Collect(const vector<Dtype>& line, Dtype* b) const;
    /// The far end of a cell. The last cell holds the last pixel only, at f =
    /// 0.
    int Next(int i) const { return std::min(i + 1, bottom_size - 1); }

    int bottom_size = 0, top_size = 0;
    Blob<int> cell;        // i of each top pixel
    Blob<Dtype> fraction;  // f of each top pixel, in [0, 1)
    Blob<int> begin;       // cell i has top pixels begin[i]..begin[i + 1] - 1
  };

  int TopSize(int bottom_size, unsigned int set_size) const;

  Axis rows_, columns_;
  Blob<Dtype> collected_rows_;  // Backward_gpu: N x C x H x W'
};

}  // namespace caffe

#endif  // INTERP_LAYER_HPP_
