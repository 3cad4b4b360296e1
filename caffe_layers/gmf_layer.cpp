#include <opencv2/core.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmf_kernels.hpp"
#include "gmf_layer.hpp"
#include "neighbourhood.hpp"

namespace caffe {

template <typename Dtype>
void GMFLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const GMFParameter& param = this->layer_param_.gmf_param();
  CheckWindow(this->layer_param_.name(), "gmf_param", param.window());
  window_ = param.window();
}

template <typename Dtype>
gmf::HalfStep GMFLayer<Dtype>::StepFor(const Blob<Dtype>& means) const {
  return gmf::HalfStep(means.num(), means.channels(), means.height(),
      means.width(), parity_, window_);
}

template <typename Dtype>
void GMFLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  const Blob<Dtype>& means = *bottom[0];
  CHECK_EQ(means.num_axes(), 4)
      << "Layer " << name << ": the means have shape " << means.shape_string()
      << ", expected N x K x H x W.";
  CHECK(bottom[1]->shape() == means.shape())
      << "Layer " << name << ": the unary has shape "
      << bottom[1]->shape_string() << ", expected the means' shape, "
      << means.shape_string() << ". Bottoms are mu, r, s, C in this order.";
  const Blob<Dtype>& similarities = *bottom[2];
  CHECK(similarities.num_axes() == 4 && similarities.num() == means.num() &&
        similarities.height() == means.height() &&
        similarities.width() == means.width())
      << "Layer " << name << ": the similarities have shape "
      << similarities.shape_string() << ", expected N x P x H x W with the N, "
      << "H and W of the means, " << means.shape_string()
      << ". Make them from features of the same grid.";
  CheckPairChannels(name, "gmf_param", window_, similarities.channels());
  const int classes = means.channels();
  CHECK(bottom[3]->shape() == vector<int>(2, classes))
      << "Layer " << name << ": the compatibility has shape "
      << bottom[3]->shape_string()
      << ", expected K x K for the means' K = " << classes
      << ". Set matrix_gen_param { num_classes: " << classes << " }.";
  for (int i = 0; i < 4; ++i) {
    CHECK_NE(top[0], bottom[i])
        << "Layer " << name << ": works in place on bottom " << i
        << ", expected a top of its own. Give the top another name.";
  }
  top[0]->ReshapeLike(means);
  const gmf::HalfStep step = StepFor(means);
  cpu_.kept_means.Reshape(step.num, step.height, classes + 1, step.stride);
  cpu_.messages.Reshape(step.num, step.height, classes + 1, step.half);
  cpu_.weighted.ReshapeLike(cpu_.kept_means);
  cpu_.residuals.Reshape(2, classes, step.num * step.height, step.half);

  const Blob<Dtype>& compatibility = *bottom[3];
  gpu_.has_basis =
      gpu_.has_basis && gpu_.basis.shape() == compatibility.shape();
  gpu_.compatibility.ReshapeLike(compatibility);
  gpu_.basis.ReshapeLike(compatibility);
  gpu_.eigenvalues.Reshape({classes});
  gpu_.matrices.Reshape({2, classes, classes});
  gpu_.rotations.Reshape((classes + 1) / 2);
  gpu_.product.ReshapeLike(compatibility);
  const int half = (step.width + 1 - parity_) / 2;
  gpu_.degrees.Reshape({step.num, step.height, half});
  for (Blob<Dtype>* blob :
      {&gpu_.residuals, &gpu_.gathered, &gpu_.rotated, &gpu_.solved}) {
    blob->Reshape({classes, step.num, step.height, half});
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::StopIfWrong(
    const WrongCompatibility<Dtype>& found) const {
  const string& name = this->layer_param_.name();
  if (found.kind == found.kNotFinite) {
    LOG(FATAL) << "Layer " << name << ": the compatibility holds "
               << found.value << " at (" << found.k << ", " << found.l
               << "), expected finite numbers. Training has diverged: lower "
               << "the learning rate, or set clip_gradients in the solver.";
  }
  if (found.kind == found.kNegative) {
    LOG(FATAL) << "Layer " << name << ": the compatibility has the eigenvalue "
               << found.value << ", expected none below 0. Take C = R R' from "
               << "a MatrixGen layer.";
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::Diagonalise(const Blob<Dtype>& compatibility) {
  typedef WrongCompatibility<Dtype> Wrong;
  const Dtype* const C = compatibility.cpu_data();
  const int classes = compatibility.shape(0), count = compatibility.count();
  if (cpu_.compatibility.size() == count &&
      std::equal(C, C + count, cpu_.compatibility.begin())) {
    return;
  }
  cv::Mat1d symmetric(classes, classes), values, vectors;
  for (int k = 0; k < classes; ++k) {
    for (int l = 0; l < classes; ++l) {
      if (!std::isfinite(C[k * classes + l])) {
        StopIfWrong({Wrong::kNotFinite, C[k * classes + l], k, l});
      }
      symmetric(k, l) =
          (static_cast<double>(C[k * classes + l]) + C[l * classes + k]) / 2;
    }
  }
  // OpenCV's solver and not LAPACK's: OpenBLAS wakes all threads for each of
  // the many products of a K x K matrix, which takes longer than the work.
  CHECK(cv::eigen(symmetric, values, vectors))  // descending, in rows
      << "Layer " << this->layer_param_.name()
      << ": no eigenvalues found for the compatibility.";
  // Rounding makes the zero eigenvalues of a singular R R' slightly negative.
  const double rounding =
      classes * values(0) * std::numeric_limits<Dtype>::epsilon();
  if (values(classes - 1) < -rounding) {
    const Dtype lowest = values(classes - 1);
    StopIfWrong({Wrong::kNegative, lowest, 0, 0});
  }
  cpu_.compatibility.assign(C, C + count);
  cpu_.eigenvalues.resize(classes);
  cpu_.basis.resize(count);
  cpu_.basis_transposed.resize(count);
  for (int k = 0; k < classes; ++k) {
    cpu_.eigenvalues[k] = std::max(values(k), 0.);
    for (int l = 0; l < classes; ++l) {
      cpu_.basis_transposed[k * classes + l] = vectors(k, l);
      cpu_.basis[l * classes + k] = vectors(k, l);
    }
  }
}

template <typename Dtype>
void GMFLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  Diagonalise(*bottom[3]);
  gmf::Forward<Dtype>{StepFor(*bottom[0]), cpu_.eigenbasis(),
      bottom[0]->cpu_data(), bottom[1]->cpu_data(), bottom[2]->cpu_data(),
      cpu_.kept_means.mutable_cpu_data(), cpu_.messages.mutable_cpu_data(),
      top[0]->mutable_cpu_data()}
      .Run();
}

template <typename Dtype>
void GMFLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  const gmf::HalfStep step = StepFor(*bottom[0]);
  gmf::BackwardUpdate<Dtype>{step, cpu_.eigenbasis(), cpu_.messages.cpu_data(),
      top[0]->cpu_data(), top[0]->cpu_diff(), cpu_.weighted.mutable_cpu_data(),
      cpu_.residuals.mutable_cpu_data(),
      propagate_down[1] ? bottom[1]->mutable_cpu_diff() : NULL}
      .Run();
  if (propagate_down[0]) {
    gmf::BackwardMeans<Dtype>{step, bottom[2]->cpu_data(),
        cpu_.weighted.cpu_data(), top[0]->cpu_diff(),
        bottom[0]->mutable_cpu_diff()}
        .Run();
  }
  if (propagate_down[2]) {
    gmf::BackwardSimilarities<Dtype>{step, cpu_.kept_means.cpu_data(),
        cpu_.weighted.cpu_data(), bottom[2]->mutable_cpu_diff()}
        .Run();
  }
  if (propagate_down[3]) {
    gmf::BackwardCompatibility<Dtype>{
        step, cpu_.residuals.cpu_data(), bottom[3]->mutable_cpu_diff()}
        .Run();
  }
}

#ifdef CPU_ONLY
STUB_GPU(GMFLayer);
#endif

template class GMFLayer<float>;
template class GMFLayer<double>;
INSTANTIATE_CLASS(GMFEvenLayer);
INSTANTIATE_CLASS(GMFOddLayer);
REGISTER_LAYER_CLASS(GMFEven);
REGISTER_LAYER_CLASS(GMFOdd);

}  // namespace caffe
