#ifndef LABELS_HPP_
#define LABELS_HPP_

#include <climits>
#include <limits>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/proto/caffe.pb.h"

#include "struct_blob.hpp"

namespace caffe {

/// For CheckLabels(): every integer from 0 on names a class.
const int kAnyNumberOfClasses = INT_MAX;

/// The label that does not count; if none is set, NaN, which no label equals.
template <typename Dtype>
Dtype IgnoreLabel(const LossParameter& param) {
  return param.has_ignore_label() ? Dtype(param.ignore_label())
                                  : std::numeric_limits<Dtype>::quiet_NaN();
}

/// Stops unless the map is N x C x H x W and the labels are N x 1 x H x W.
template <typename Dtype>
void CheckLabelShape(const std::string& layer, const std::string& map_name,
    const Blob<Dtype>& map, const Blob<Dtype>& labels) {
  CHECK_EQ(map.num_axes(), 4)
      << "Layer " << layer << ": the " << map_name << " are "
      << map.shape_string() << ", expected four axes, N x C x H x W.";
  const vector<int> expected{map.num(), 1, map.height(), map.width()};
  CHECK(labels.shape() == expected)
      << "Layer " << layer << ": the labels are " << labels.shape_string()
      << ", expected " << Blob<Dtype>(expected).shape_string() << " to go with "
      << map_name << " of " << map.shape_string()
      << ". Give the layer labels of the same height and width.";
}

/// Stops if a gradient of the labels, bottom 1, is wanted.
inline void CheckNoLabelGradient(
    const std::string& layer, const vector<bool>& propagate_down) {
  CHECK(!propagate_down[1])
      << "Layer " << layer << ": cannot backpropagate to the labels.";
}

/// Stops, because a label is neither 0..num_classes-1 nor ignored.
inline void RejectLabel(const std::string& layer, double label, int n, int y,
    int x, int num_classes, const LossParameter& param) {
  LOG(FATAL) << "Layer " << layer << ": label " << label << " at (n, y, x) = ("
             << n << ", " << y << ", " << x << "), expected an integer "
             << (num_classes == kAnyNumberOfClasses
                        ? "of at least 0"
                        : "in 0.." + std::to_string(num_classes - 1))
             << (param.has_ignore_label()
                        ? " or the ignore label " +
                              std::to_string(param.ignore_label())
                        : " (no ignore label is set)")
             << ". Mend the label map, or set loss_param { ignore_label: 255 "
             << "}.";
}

/// Stops at the first label that is neither 0..num_classes-1 nor ignored.
/// Upstream's losses check this in debug builds only.
template <typename Dtype>
void CheckLabels(const std::string& layer, const Blob<Dtype>& labels,
    int num_classes, const LossParameter& param) {
  const Dtype ignore_label = IgnoreLabel<Dtype>(param);
  const Dtype* label = labels.cpu_data();
  for (int i = 0; i < labels.count(); ++i) {
    const bool is_class = label[i] >= 0 && label[i] < num_classes &&
                          label[i] == static_cast<int>(label[i]);
    if (!is_class && label[i] != ignore_label) {
      RejectLabel(layer, label[i], i / labels.count(2),
          i / labels.width() % labels.height(), i % labels.width(), num_classes,
          param);
    }
  }
}

/// A wrong label that a kernel found, if is_found.
struct WrongLabel {
  int is_found;
  double label;
  int n, y, x;
};

/// Stops if an earlier pass on the GPU met a wrong label.
inline void CheckReportedLabel(const std::string& layer,
    GpuReport<WrongLabel>* report, int num_classes,
    const LossParameter& param) {
  const WrongLabel& wrong = *report->get();
  if (wrong.is_found) {
    RejectLabel(
        layer, wrong.label, wrong.n, wrong.y, wrong.x, num_classes, param);
  }
}

}  // namespace caffe

#endif  // LABELS_HPP_
