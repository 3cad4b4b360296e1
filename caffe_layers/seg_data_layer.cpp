#include <lmdb.h>
#include <opencv2/core/core.hpp>
#include <opencv2/imgcodecs/imgcodecs.hpp>
#include <opencv2/imgproc/imgproc.hpp>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <jpeglib.h>  // after cstdio, on which it depends
#include <jerror.h>   // after jpeglib.h

#include "seg_data_layer.hpp"

// Compiles a function also for AVX2, and takes that where the processor has it.
#ifdef __x86_64__
#define FOR_EACH_PROCESSOR __attribute__((target_clones("default", "avx2")))
#else
#define FOR_EACH_PROCESSOR
#endif

namespace caffe {

namespace {

const char kRemedy[] = "Make both databases again with tools/prepare_lmdb.py.";

enum Choice { ORDER = 0, ROW = 1, COLUMN = 2, MIRROR = 3, SKIP = 4, SCALE = 5 };

const uint64_t kScaleOne = 65536;  // factors are in units of 1 / 65536

/// The mixer f of Eq. (1).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t Draw(uint64_t seed, uint64_t epoch, uint64_t record, Choice choice) {
  return Mix(choice ^ Mix(record ^ Mix(epoch ^ Mix(seed))));  // Eq. (1)
}

uint64_t Below(uint64_t draw, uint32_t n) {
  return ((draw >> 32) * n) >> 32;  // Eq. (2)
}

uint64_t AsScale(float factor) {
  return static_cast<uint64_t>(static_cast<double>(factor) * kScaleOne + 0.5);
}

uint64_t DivideRounded(uint64_t numerator, uint64_t denominator) {
  return std::max<uint64_t>(1, (numerator + denominator / 2) / denominator);
}

/// Sets m and k of Eq. (3) on an axis of an image.
void FitAxis(int image, int crop, uint64_t scale, int* part, int* size) {
  *part = std::min<uint64_t>(image, DivideRounded(crop * kScaleOne, scale));
  *size = *part < image ? crop
                        : std::min<uint64_t>(
                              crop, DivideRounded(image * scale, kScaleOne));
}

/// The parameter whose prefetch the base class reads.
LayerParameter WithPrefetch(LayerParameter param) {
  param.mutable_data_param()->set_prefetch(param.seg_data_param().prefetch());
  return param;
}

struct JpegErrors {
  jpeg_error_mgr manager;  // first, so that its address is that of the whole
  jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];
};

void StopDecoding(j_common_ptr jpeg) {
  JpegErrors* errors = reinterpret_cast<JpegErrors*>(jpeg->err);
  errors->manager.format_message(jpeg, errors->message);
  longjmp(errors->on_error, 1);
}

/// Where libjpeg would warn that data are lost and go on with grey pixels.
void StopIfDataAreLost(j_common_ptr jpeg, int level) {
  const bool is_warning = level < 0;
  if (is_warning && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA) {
    StopDecoding(jpeg);
  }
}

void ReadRows(jpeg_decompress_struct* jpeg, int end, cv::Mat* image) {
  while (jpeg->output_scanline < end) {
    JSAMPROW row = image->ptr(jpeg->output_scanline);
    jpeg_read_scanlines(jpeg, &row, 1);
  }
}

/// Decodes the given rows of a JPEG, and leaves the others of image as they
/// are. Twice as fast as cv::imdecode, which also accepts truncated files.
/// Returns the reason for a failure, "" for none.
string DecodeJpeg(const string& bytes, const cv::Range& rows, cv::Mat* image) {
  jpeg_decompress_struct jpeg;
  JpegErrors errors;
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = StopDecoding;
  errors.manager.emit_message = StopIfDataAreLost;
  if (setjmp(errors.on_error)) {
    jpeg_destroy_decompress(&jpeg);
    return errors.message;
  }
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()),
      bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  jpeg.out_color_space = JCS_EXT_BGR;
  jpeg_start_decompress(&jpeg);
  image->create(jpeg.output_height, jpeg.output_width, CV_8UC3);
  const int height = jpeg.output_height;
  jpeg_skip_scanlines(&jpeg, rows.start);
  ReadRows(&jpeg, std::min(rows.end, height), image);
  if (jpeg.output_scanline < height) {
    // The last row too, to see if data are lost: a skip to the end reads none.
    jpeg_skip_scanlines(&jpeg, height - 1 - jpeg.output_scanline);
    ReadRows(&jpeg, height, image);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
  return "";
}

/// Returns the reason for a failure, "" for none.
string DecodeWithOpenCv(const string& bytes, int flags, cv::Mat* image) {
  const cv::Mat buffer(
      1, bytes.size(), CV_8UC1, const_cast<char*>(bytes.data()));
  try {
    cv::imdecode(buffer, flags, image);
  } catch (const cv::Exception& error) { return error.what(); }
  return image->empty() ? "no image format that OpenCV can decode" : "";
}

string DecodeImage(const string& bytes, const cv::Range& rows, cv::Mat* image) {
  const bool is_jpeg = bytes.compare(0, 3, "\xFF\xD8\xFF") == 0;
  return is_jpeg ? DecodeJpeg(bytes, rows, image)
                 : DecodeWithOpenCv(bytes,
                       cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION, image);
}

string DecodeLabel(const string& bytes, cv::Mat* label) {
  // Decoders turn palettes into colours and spread 1-bit labels over 0..255;
  // the header tells: bit depth at byte 24, colour type (0: grey) at byte 25.
  const bool is_png = bytes.compare(0, 8, "\x89PNG\r\n\x1A\n") == 0;
  if (!is_png || bytes.size() < 26 || bytes[24] != 8 || bytes[25] != 0) {
    return "not an 8-bit greyscale PNG, as label maps must be";
  }
  return DecodeWithOpenCv(bytes, cv::IMREAD_UNCHANGED, label);
}

cv::Mat ResizeImage(const cv::Mat& image, const cv::Size& size) {
  if (image.size() == size) { return image; }
  cv::Mat resized;
  cv::resize(image, resized, size, 0, 0, cv::INTER_LINEAR_EXACT);
  return resized;
}

/// The nearest pixels. Not by cv::INTER_NEAREST_EXACT, which takes others in
/// other versions of OpenCV.
cv::Mat ResizeLabel(const cv::Mat& label, const cv::Size& size) {
  if (label.size() == size) { return label; }
  const auto nearest = [](int i, int from, int to) -> int {
    return (2 * int64_t(i) + 1) * from / (2 * int64_t(to));
  };
  vector<int> columns(size.width);
  for (int w = 0; w < size.width; ++w) {
    columns[w] = nearest(w, label.cols, size.width);
  }
  cv::Mat resized(size, CV_8UC1);
  for (int h = 0; h < size.height; ++h) {
    const uchar* from = label.ptr(nearest(h, label.rows, size.height));
    uchar* to = resized.ptr(h);
    for (int w = 0; w < size.width; ++w) { to[w] = from[columns[w]]; }
  }
  return resized;
}

/// Writes count bytes, kStep apart, minus mean.
template <int kStep, typename Dtype>
FOR_EACH_PROCESSOR void CopyRow(
    const uchar* bytes, int count, Dtype mean, Dtype* out) {
  for (int i = 0; i < count; ++i) { out[i] = bytes[kStep * i] - mean; }
}

}  // namespace

EncodedRecords::EncodedRecords(const string& name, const string& source)
    : name_(name + " \"" + source + "\""), env_(NULL), txn_(NULL) {
  CHECK_EQ(mdb_env_create(&env_), MDB_SUCCESS);
  // Finished databases do not change, so that reading needs no lock: any number
  // of nets may read one, also where they may not write.
  int status = mdb_env_open(
      env_, source.c_str(), MDB_RDONLY | MDB_NOTLS | MDB_NOLOCK, 0);
  if (status == MDB_SUCCESS) {
    status = mdb_txn_begin(env_, NULL, MDB_RDONLY, &txn_);
  }
  if (status == MDB_SUCCESS) {
    status = mdb_dbi_open(txn_, NULL, 0, &database_);
  }
  CHECK_EQ(status, MDB_SUCCESS)
      << name_ << " can't be opened: " << mdb_strerror(status)
      << ". Expected the folder of an LMDB, relative to the working directory. "
      << kRemedy;
}

EncodedRecords::~EncodedRecords() {
  mdb_txn_abort(txn_);
  mdb_env_close(env_);
}

vector<string> EncodedRecords::Keys() const {
  vector<string> keys;
  MDB_cursor* cursor;
  CHECK_EQ(mdb_cursor_open(txn_, database_, &cursor), MDB_SUCCESS);
  MDB_val key;
  int status;
  while (
      (status = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT)) == MDB_SUCCESS) {
    keys.emplace_back(static_cast<const char*>(key.mv_data), key.mv_size);
  }
  CHECK_EQ(status, MDB_NOTFOUND)
      << name_ << ": " << mdb_strerror(status) << ". " << kRemedy;
  mdb_cursor_close(cursor);
  return keys;
}

string EncodedRecords::Describe(const string& key) const {
  return name_ + ": record \"" + key + "\"";
}

const string& EncodedRecords::Read(const string& key) {
  MDB_val mdb_key, value;
  mdb_key.mv_data = const_cast<char*>(key.data());
  mdb_key.mv_size = key.size();
  const int status = mdb_get(txn_, database_, &mdb_key, &value);
  CHECK_EQ(status, MDB_SUCCESS)
      << Describe(key) << ": " << mdb_strerror(status) << ". " << kRemedy;
  CHECK(datum_.ParseFromArray(value.mv_data, value.mv_size) && datum_.encoded())
      << Describe(key) << " is " << value.mv_size << " bytes that are not a"
      << " Datum message with an encoded file. " << kRemedy;
  return datum_.data();
}

template <typename Dtype>
SegDataLayer<Dtype>::SegDataLayer(const LayerParameter& param)
    : BasePrefetchingDataLayer<Dtype>(WithPrefetch(param)),
      seg_data_param_(param.seg_data_param()),
      order_epoch_(0) {
  this->layer_param_ = param;
}

template <typename Dtype>
SegDataLayer<Dtype>::~SegDataLayer() {
  this->StopInternalThread();
}

template <typename Dtype>
void SegDataLayer<Dtype>::CheckParameters() const {
  const string& name = this->layer_param_.name();
  const SegDataParameter& param = seg_data_param_;
  CHECK(!this->layer_param_.has_transform_param() &&
        !this->layer_param_.has_data_param())
      << "Layer " << name << ": transform_param and data_param are not read. "
      << "Give their fields in seg_data_param.";
  CHECK(!param.image_source().empty() && !param.label_source().empty())
      << "Layer " << name << ": image_source is \"" << param.image_source()
      << "\" and label_source is \"" << param.label_source()
      << "\", expected two LMDBs.";
  CHECK_GE(param.batch_size(), 1)
      << "Layer " << name << ": batch_size is " << param.batch_size()
      << ", expected at least 1.";
  CHECK(param.crop_size() > 0 || param.batch_size() == 1)
      << "Layer " << name << ": batch_size is " << param.batch_size()
      << " without crop_size, expected 1, since images differ in size. "
      << "Set crop_size, or batch_size: 1 for whole images.";
  // As one expression, which is false for NaN too.
  CHECK(0.125 <= param.scale_min() && param.scale_min() <= param.scale_max() &&
        param.scale_max() <= 8)
      << "Layer " << name << ": scale_min is " << param.scale_min()
      << " and scale_max is " << param.scale_max()
      << ", expected 0.125 <= scale_min <= scale_max <= 8. "
      << "Leave both out (1) for images as they are.";
  CHECK(param.crop_size() > 0 ||
        (param.scale_min() == 1 && param.scale_max() == 1))
      << "Layer " << name << ": scale_min is " << param.scale_min()
      << " and scale_max is " << param.scale_max()
      << " without crop_size, expected 1, since whole images keep their size. "
      << "Set crop_size, or leave scale_min and scale_max out.";
  CHECK(param.mean_value_size() <= 1 || param.mean_value_size() == 3)
      << "Layer " << name << ": mean_value is given " << param.mean_value_size()
      << " times, expected none, 1 for all channels or 3 (B, G, R).";
  CHECK(1 <= param.num_classes() && param.num_classes() <= 256)
      << "Layer " << name << ": num_classes is " << param.num_classes()
      << ", expected 1..256. Set it to check the labels by, 21 for VOC.";
  CHECK_LE(param.ignore_label(), 255)
      << "Layer " << name << ": ignore_label is " << param.ignore_label()
      << ", expected 0..255, as labels are bytes.";
  CHECK_GE(param.prefetch(), 1)
      << "Layer " << name << ": prefetch is 0, expected at least 1 batch.";
}

template <typename Dtype>
void SegDataLayer<Dtype>::CheckKeys(const vector<string>& label_keys) const {
  CHECK(!keys_.empty()) << images_->name() << " has no records. " << kRemedy;
  if (keys_ == label_keys) { return; }
  const size_t in_both = std::min(keys_.size(), label_keys.size());
  size_t i = 0;
  while (i < in_both && keys_[i] == label_keys[i]) { ++i; }
  const string end("(none)");
  LOG(FATAL) << images_->name() << " has " << keys_.size() << " records, "
             << labels_->name() << " has " << label_keys.size()
             << ", expected the same keys in both. Record " << i
             << " is the first that differs: \""
             << (i < keys_.size() ? keys_[i] : end) << "\" and \""
             << (i < label_keys.size() ? label_keys[i] : end) << "\". "
             << kRemedy;
}

template <typename Dtype>
void SegDataLayer<Dtype>::DataLayerSetUp(
    const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CheckParameters();
  const SegDataParameter& param = seg_data_param_;
  const string name = "Layer " + this->layer_param_.name() + ": ";
  images_.reset(
      new EncodedRecords(name + "image_source", param.image_source()));
  labels_.reset(
      new EncodedRecords(name + "label_source", param.label_source()));
  keys_ = images_->Keys();
  CheckKeys(labels_->Keys());
  LOG_IF(INFO, Caffe::root_solver())
      << images_->name() << " has " << keys_.size() << " records.";

  for (int c = 0; c < 3; ++c) {
    const int means = param.mean_value_size();
    mean_[c] = means ? param.mean_value(means == 1 ? 0 : c) : 0;
  }
  const bool shared = this->phase_ == TRAIN;
  step_ = shared ? Caffe::solver_count() : 1;
  position_ = Below(Draw(param.seed(), 0, 0, SKIP), param.rand_skip()) +
              (shared ? Caffe::solver_rank() : 0);

  int height = param.crop_size(), width = param.crop_size();
  if (!param.crop_size()) {
    ReadLabel(
        keys_[RecordAt(position_ / keys_.size(), position_ % keys_.size())]);
    height = label_.rows;
    width = label_.cols;
  }
  top[0]->Reshape(param.batch_size(), 3, height, width);
  top[1]->Reshape(param.batch_size(), 1, height, width);
  for (auto& batch : this->prefetch_) {
    batch->data_.ReshapeLike(*top[0]);
    batch->label_.ReshapeLike(*top[1]);
  }
}

template <typename Dtype>
int SegDataLayer<Dtype>::RecordAt(uint64_t epoch, int place) {
  if (!seg_data_param_.shuffle()) { return place; }
  if (order_.empty() || order_epoch_ != epoch) {
    vector<std::pair<uint64_t, int>> draws;
    for (int i = 0; i < keys_.size(); ++i) {
      draws.emplace_back(Draw(seg_data_param_.seed(), epoch, i, ORDER), i);
    }
    std::sort(draws.begin(), draws.end());
    order_.clear();
    for (const auto& draw : draws) { order_.push_back(draw.second); }
    order_epoch_ = epoch;
  }
  return order_[place];
}

template <typename Dtype>
void SegDataLayer<Dtype>::ReadLabel(const string& key) {
  const string failure = DecodeLabel(labels_->Read(key), &label_);
  CHECK(failure.empty()) << labels_->Describe(key)
                         << " can't be decoded: " << failure << ". " << kRemedy;
  CheckLabels(key);
}

template <typename Dtype>
void SegDataLayer<Dtype>::ReadImage(const string& key, const Window& window) {
  const cv::Range rows(window.part.y, window.part.y + window.part.height);
  const string failure = DecodeImage(images_->Read(key), rows, &image_);
  CHECK(failure.empty()) << images_->Describe(key)
                         << " can't be decoded: " << failure << ". " << kRemedy;
  CHECK(image_.size() == label_.size())
      << images_->Describe(key) << " is " << image_.cols << " x " << image_.rows
      << " pixels, its label map " << label_.cols << " x " << label_.rows
      << ", expected the same size. " << kRemedy;
}

template <typename Dtype>
void SegDataLayer<Dtype>::CheckLabels(const string& key) const {
  const uchar last = seg_data_param_.num_classes() - 1;
  const uchar ignored = seg_data_param_.ignore_label();
  for (int h = 0; h < label_.rows; ++h) {
    const uchar* row = label_.ptr(h);
    uchar is_bad = 0;  // a reduction without branches, which compiles to SIMD
    for (int w = 0; w < label_.cols; ++w) {
      is_bad |= (row[w] > last) & (row[w] != ignored);
    }
    for (int w = 0; is_bad && w < label_.cols; ++w) {
      CHECK(row[w] <= last || row[w] == ignored)
          << labels_->Describe(key) << " has the label "
          << static_cast<int>(row[w]) << " at row " << h << ", column " << w
          << ", expected 0.." << static_cast<int>(last) << " or ignore_label "
          << static_cast<int>(ignored)
          << ". Mend num_classes or ignore_label of the layer, or the labels.";
    }
  }
}

template <typename Dtype>
typename SegDataLayer<Dtype>::Window SegDataLayer<Dtype>::ChooseWindow(
    uint64_t epoch, int record) const {
  const auto draw = [&](Choice choice, int n) -> int {
    return Below(Draw(seg_data_param_.seed(), epoch, record, choice), n);
  };
  const bool random = this->phase_ == TRAIN;
  Window window = {cv::Rect(cv::Point(), label_.size()), label_.size(), false};
  if (const int crop = seg_data_param_.crop_size()) {
    const uint64_t low = AsScale(seg_data_param_.scale_min());
    const uint64_t high = AsScale(seg_data_param_.scale_max());
    const uint64_t scale =
        random ? low + draw(SCALE, high - low + 1) : kScaleOne;
    cv::Rect& part = window.part;
    FitAxis(label_.rows, crop, scale, &part.height, &window.size.height);
    FitAxis(label_.cols, crop, scale, &part.width, &window.size.width);
    const int free_rows = label_.rows - part.height;
    const int free_columns = label_.cols - part.width;
    part.y = random ? draw(ROW, free_rows + 1) : free_rows / 2;
    part.x = random ? draw(COLUMN, free_columns + 1) : free_columns / 2;
  }
  window.mirrored = seg_data_param_.mirror() && draw(MIRROR, 2);
  return window;
}

template <typename Dtype>
void SegDataLayer<Dtype>::CopyWindow(const Window& window, int height,
    int width, Dtype* data, Dtype* label_data) const {
  const cv::Mat image = ResizeImage(image_(window.part), window.size);
  const cv::Mat label = ResizeLabel(label_(window.part), window.size);
  const auto copy_colour =
      window.mirrored ? CopyRow<-3, Dtype> : CopyRow<3, Dtype>;
  const auto copy_label =
      window.mirrored ? CopyRow<-1, Dtype> : CopyRow<1, Dtype>;
  const int first = window.mirrored ? window.size.width - 1 : 0;
  for (int h = 0; h < height; ++h) {
    const int copied = h < window.size.height ? window.size.width : 0;
    const int row = copied ? h : 0;
    for (int c = 0; c < 3; ++c) {
      Dtype* out = data + (c * height + h) * width;
      copy_colour(image.ptr(row, first) + c, copied, mean_[c], out);
      std::fill(out + copied, out + width, Dtype(0));
    }
    Dtype* out = label_data + h * width;
    copy_label(label.ptr(row, first), copied, Dtype(0), out);
    std::fill(out + copied, out + width, Dtype(seg_data_param_.ignore_label()));
  }
}

// Runs in the prefetching thread.
template <typename Dtype>
void SegDataLayer<Dtype>::load_batch(Batch<Dtype>* batch) {
  const int batch_size = seg_data_param_.batch_size();
  for (int n = 0; n < batch_size; ++n, position_ += step_) {
    const uint64_t epoch = position_ / keys_.size();
    const int record = RecordAt(epoch, position_ % keys_.size());
    ReadLabel(keys_[record]);
    const Window window = ChooseWindow(epoch, record);
    ReadImage(keys_[record], window);
    if (!seg_data_param_.crop_size()) {
      batch->data_.Reshape(1, 3, label_.rows, label_.cols);
      batch->label_.Reshape(1, 1, label_.rows, label_.cols);
    }
    CopyWindow(window, batch->data_.height(), batch->data_.width(),
        batch->data_.mutable_cpu_data() + batch->data_.offset(n),
        batch->label_.mutable_cpu_data() + batch->label_.offset(n));
  }
}

INSTANTIATE_CLASS(SegDataLayer);
REGISTER_LAYER_CLASS(SegData);

}  // namespace caffe
