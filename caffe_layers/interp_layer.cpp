#include <algorithm>
#include <climits>
#include <cstdint>
#include <vector>

#include "caffe/util/math_functions.hpp"

#include "interp_layer.hpp"
#include "parallel.hpp"

namespace caffe {

template <typename Dtype>
void InterpLayer<Dtype>::LayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const InterpParameter& param = this->layer_param_.interp_param();
  const bool size = param.has_height() && param.has_width();
  CHECK(param.has_height() == param.has_width() &&
        param.has_zoom_factor() + param.has_shrink_factor() + size == 1)
      << "Layer " << this->layer_param_.name() << ": interp_param is { "
      << param.ShortDebugString() << " }, expected exactly one of zoom_factor, "
      << "shrink_factor, or height and width together, such as "
      << "interp_param { zoom_factor: 8 }.";
  CHECK(param.zoom_factor() >= param.has_zoom_factor() &&
        param.shrink_factor() >= param.has_shrink_factor() &&
        param.height() >= size && param.width() >= size)
      << "Layer " << this->layer_param_.name() << ": interp_param is { "
      << param.ShortDebugString() << " }, expected values of at least 1.";
}

template <typename Dtype>
void InterpLayer<Dtype>::Reshape(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK(bottom[0]->num_axes() == 4 && bottom[0]->count() > 0)
      << "Layer " << this->layer_param_.name() << ": bottom is "
      << bottom[0]->shape_string() << ", expected four axes, N x C x H x W, "
      << "none of them empty.";
  CHECK_NE(bottom[0], top[0])
      << "Layer " << this->layer_param_.name()
      << ": cannot work in place. Give the top another name.";
  const InterpParameter& param = this->layer_param_.interp_param();
  rows_.Reshape(
      bottom[0]->height(), TopSize(bottom[0]->height(), param.height()));
  columns_.Reshape(
      bottom[0]->width(), TopSize(bottom[0]->width(), param.width()));
  top[0]->Reshape(bottom[0]->num(), bottom[0]->channels(), rows_.top_size,
      columns_.top_size);
  collected_rows_.Reshape(bottom[0]->num(), bottom[0]->channels(),
      rows_.bottom_size, columns_.top_size);
}

template <typename Dtype>
int InterpLayer<Dtype>::TopSize(int bottom_size, unsigned int set_size) const {
  const InterpParameter& param = this->layer_param_.interp_param();
  int64_t size = set_size;
  if (param.has_zoom_factor()) {
    size = (bottom_size - int64_t{1}) * param.zoom_factor() + 1;
  } else if (param.has_shrink_factor()) {
    CHECK_EQ((bottom_size - 1) % int64_t{param.shrink_factor()}, 0)
        << "Layer " << this->layer_param_.name() << ": bottom is "
        << bottom_size << " pixels high or wide, expected "
        << param.shrink_factor() << " k + 1, for any k. Pad or crop it, or use "
        << "interp_param { height width }, which interpolates.";
    size = (bottom_size - int64_t{1}) / param.shrink_factor() + 1;
  }
  CHECK_LE(size, INT_MAX) << "Layer " << this->layer_param_.name()
                          << ": interp_param { " << param.ShortDebugString()
                          << " } makes " << bottom_size << " pixels into "
                          << size << ", more than a blob holds.";
  return size;
}

template <typename Dtype>
void InterpLayer<Dtype>::Axis::Reshape(int new_bottom_size, int new_top_size) {
  if (new_bottom_size == bottom_size && new_top_size == top_size) { return; }
  bottom_size = new_bottom_size;
  top_size = new_top_size;
  cell.Reshape(vector<int>(1, top_size));
  fraction.Reshape(vector<int>(1, top_size));
  begin.Reshape(vector<int>(1, bottom_size + 1));
  int* const i = cell.mutable_cpu_data();
  Dtype* const f = fraction.mutable_cpu_data();
  int* const first = begin.mutable_cpu_data();
  std::fill(first, first + bottom_size + 1, top_size);
  const int64_t intervals = std::max(1, top_size - 1);
  for (int t = top_size - 1; t >= 0; --t) {
    // Eq. (a), in integers: no rounding keeps the last pixel off its corner.
    const int64_t position = t * (bottom_size - int64_t{1});
    i[t] = position / intervals;
    f[t] = Dtype(position % intervals) / intervals;
    first[i[t]] = t;
  }
  // An empty cell begins where the next one does.
  for (int b = bottom_size - 1; b >= 0; --b) {
    first[b] = std::min(first[b], first[b + 1]);
  }
}

template <typename Dtype>
void InterpLayer<Dtype>::Axis::Stretch(
    const Dtype* b, vector<Dtype>* line) const {
  const int* const cells = cell.cpu_data();
  const Dtype* const f = fraction.cpu_data();
  Dtype* t = line->data();
  for (int x = 0; x < top_size; ++x) {
    const int i = cells[x];
    t[x] = b[i] + f[x] * (b[Next(i)] - b[i]);  // Eq. (b)
  }
}

template <typename Dtype>
void InterpLayer<Dtype>::Axis::Collect(
    const vector<Dtype>& line, Dtype* b) const {
  const int* const first = begin.cpu_data();
  const Dtype* const f = fraction.cpu_data();
  Dtype from_cell_before = 0;
  for (int i = 0; i < bottom_size; ++i) {
    Dtype own = 0, next = 0;
    for (int x = first[i]; x < first[i + 1]; ++x) {
      own += (1 - f[x]) * line[x];
      next += f[x] * line[x];
    }
    b[i] = from_cell_before + own;
    from_cell_before = next;
  }
}

template <typename Dtype>
void InterpLayer<Dtype>::Forward_cpu(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* bottom_data = bottom[0]->cpu_data();
  Dtype* top_data = top[0]->mutable_cpu_data();
  if (bottom[0]->shape() == top[0]->shape()) {
    caffe_copy(top[0]->count(), bottom_data, top_data);
    return;
  }
  const int width = columns_.top_size;
  const int num_planes = bottom[0]->count(0, 2);
  const int* const row_cell = rows_.cell.cpu_data();
  const Dtype* const row_fraction = rows_.fraction.cpu_data();
#pragma omp parallel if (top[0]->count() > kMinParallelCount)
  {
    // The two bottom rows around a top row, stretched to the top's width.
    vector<Dtype> above(width), below(width);
#pragma omp for
    for (int plane = 0; plane < num_planes; ++plane) {
      const Dtype* b = bottom_data + plane * bottom[0]->count(2);
      Dtype* t = top_data + plane * top[0]->count(2);
      int row_above = -1, row_below = -1;
      for (int y = 0; y < rows_.top_size; ++y, t += width) {
        const int i = row_cell[y];
        const Dtype f = row_fraction[y];
        if (i != row_above) {
          if (i == row_below) {
            above.swap(below);
          } else {
            columns_.Stretch(b + i * columns_.bottom_size, &above);
          }
          row_above = i;
          row_below = rows_.Next(i);
          columns_.Stretch(b + row_below * columns_.bottom_size, &below);
        }
        for (int x = 0; x < width; ++x) {
          t[x] = above[x] + f * (below[x] - above[x]);  // Eq. (b)
        }
      }
    }
  }
}

template <typename Dtype>
void InterpLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top,
    const vector<bool>& propagate_down, const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) { return; }
  const Dtype* top_diff = top[0]->cpu_diff();
  Dtype* bottom_diff = bottom[0]->mutable_cpu_diff();
  if (bottom[0]->shape() == top[0]->shape()) {
    caffe_copy(top[0]->count(), top_diff, bottom_diff);
    return;
  }
  const int width = columns_.top_size;
  const int num_planes = bottom[0]->count(0, 2);
  const int* const row_cell = rows_.cell.cpu_data();
  const int* const row_begin = rows_.begin.cpu_data();
  const Dtype* const row_fraction = rows_.fraction.cpu_data();
#pragma omp parallel if (top[0]->count() > kMinParallelCount)
  {
    // Each bottom row gathers from the cells above and below it, each bottom
    // pixel from those left and right: no thread writes where another does.
    vector<Dtype> row(width);
#pragma omp for
    for (int plane = 0; plane < num_planes; ++plane) {
      const Dtype* g = top_diff + plane * top[0]->count(2);
      Dtype* b = bottom_diff + plane * bottom[0]->count(2);
      for (int i = 0; i < rows_.bottom_size; ++i) {
        std::fill(row.begin(), row.end(), Dtype(0));
        for (int y = row_begin[std::max(0, i - 1)]; y < row_begin[i + 1]; ++y) {
          const Dtype f = row_fraction[y];
          const Dtype weight = row_cell[y] == i ? 1 - f : f;
          for (int x = 0; x < width; ++x) {
            row[x] += weight * g[y * width + x];
          }
        }
        columns_.Collect(row, b + i * columns_.bottom_size);
      }
    }
  }
}

#ifdef CPU_ONLY
STUB_GPU(InterpLayer);
#endif

INSTANTIATE_CLASS(InterpLayer);
REGISTER_LAYER_CLASS(Interp);

}  // namespace caffe
