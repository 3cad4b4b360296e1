#ifndef GCRF_SEG_DATA_LAYER_HPP_
#define GCRF_SEG_DATA_LAYER_HPP_

#include <opencv2/core/core.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layers/base_data_layer.hpp"
#include "caffe/proto/caffe.pb.h"

struct MDB_env;
struct MDB_txn;

namespace caffe {

/// Reads the encoded files of an LMDB of Datum records, by key.
class EncodedRecords {
 public:
  /// @param name says in messages whose database it is and which.
  EncodedRecords(const string& name, const string& source);
  ~EncodedRecords();
  vector<string> Keys() const;
  /// The bytes of an encoded file, valid until the next call.
  const string& Read(const string& key);
  /// Names the record in messages.
  string Describe(const string& key) const;
  const string& name() const { return name_; }

 private:
  const string name_;
  MDB_env* env_;
  MDB_txn* txn_;
  unsigned int database_;
  Datum datum_;

  DISABLE_COPY_AND_ASSIGN(EncodedRecords);
};

/**
 * @brief Images and their label maps, cropped, scaled and mirrored alike, from
 *        two LMDBs with the same keys (tools/prepare_lmdb.py makes them).
 *
 * Every random choice is a function of (seed, epoch, record) alone, where
 * record is the place of the key in the database:
 * @f[ u_p = f(p \oplus f(record \oplus f(epoch \oplus f(seed)))) @f]      (1)
 * f is the 64-bit mixer splitmix64 (G. L. Steele et al., "Fast splittable
 * pseudorandom number generators", 2014). A choice among n is
 * @f[ \lfloor \lfloor u_p / 2^{32} \rfloor n / 2^{32} \rfloor @f]         (2)
 * with p = 1 for the first row of a crop, 2 for its first column, 3 for
 * mirroring (n = 2), 4 for rand_skip (epoch 0, record 0), 5 for scaling. With
 * shuffle, an epoch visits the records by rising u_0, otherwise by rising key.
 * The stream is therefore the same whatever prefetch is, and
 * python_layers/seg_data.py gives it too.
 *
 * A crop has its window within the image, at random in the TRAIN phase and at
 * the centre in the TEST phase. The window is mirrored, in both phases, with
 * probability one half if mirror is set. On an axis where the image is smaller
 * than the crop, the window is the whole image, and the right or bottom
 * remainder of the crop is filled: data with 0 (the mean), label with
 * ignore_label.
 *
 * In the TRAIN phase, a crop is one of the image z times as large. The factor
 * z is uniform between scale_min and scale_max, in steps of 1 / 65536. In the
 * TEST phase z = 1. Only the window is resized, after it is cut: along an axis
 * of n pixels it has m, which a crop of c pixels shows as k:
 * @f[ m = \min(n, [c / z]), \quad
 *     k = c \mbox{ if } m < n, \mbox{ else } \min(c, [z n]) @f]            (3)
 * [x] is x rounded, half up, at least 1. The image is interpolated bilinearly
 * (cv::INTER_LINEAR_EXACT). Pixel i of the label is pixel
 * @f$ \lfloor (2 i + 1) m / (2 k) \rfloor @f$ of the window.
 *
 * Batches run on from one epoch to the next. Solver r of R takes every R-th
 * record of the stream from the r-th on (in the TEST phase, where only the
 * root solver runs, it takes all). After a restart from a snapshot the stream
 * begins anew; another seed or rand_skip avoids seeing the same records again.
 *
 * Records hold encoded images of 8 bits per channel (JPEG is fastest), read as
 * stored: an EXIF orientation is not applied. Label maps are 8-bit greyscale
 * PNGs with the values 0..num_classes-1 or ignore_label. Any other record
 * stops the program, with its key, also a JPEG that lost data.
 *
 * @param bottom (length 0)
 * @param top (length 2)
 *   -# @f$ (N \times 3 \times h \times w) @f$ data, BGR minus mean_value
 *   -# @f$ (N \times 1 \times h \times w) @f$ label, class indices
 *   where h = w = crop_size, or without crop_size the size of the image.
 * seg_data_param:
 *   image_source, label_source: the LMDBs, required;
 *   batch_size: N, required; 1 without crop_size;
 *   crop_size: in pixels; without it, images are given whole;
 *   mirror: default false;
 *   scale_min, scale_max: 1/8 <= scale_min <= scale_max <= 8, default 1 (off);
 *     other than 1 only with crop_size;
 *   mean_value: none (0), one for all channels, or three (B, G, R);
 *   ignore_label: 0..255, default 255;
 *   num_classes: 1..256, required;
 *   shuffle: default false;
 *   seed: default 0;
 *   rand_skip: the stream begins at a record below this number; default 0;
 *   prefetch: batches decoded ahead, at least 1, default 4.
 */
template <typename Dtype>
class SegDataLayer : public BasePrefetchingDataLayer<Dtype> {
 public:
  explicit SegDataLayer(const LayerParameter& param);
  virtual ~SegDataLayer();
  virtual void DataLayerSetUp(
      const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top);

  virtual inline const char* type() const { return "SegData"; }
  virtual inline int ExactNumBottomBlobs() const { return 0; }
  virtual inline int ExactNumTopBlobs() const { return 2; }

 protected:
  /// The part of an image that a crop shows.
  struct Window {
    cv::Rect part;
    cv::Size size;  // at which the crop shows it
    bool mirrored;
  };

  virtual void load_batch(Batch<Dtype>* batch);

  void CheckParameters() const;
  void CheckKeys(const vector<string>& label_keys) const;
  void CheckLabels(const string& key) const;
  /// Decodes a record to label_.
  void ReadLabel(const string& key);
  /// Decodes the rows of a window to image_.
  void ReadImage(const string& key, const Window& window);
  /// The record at a place of the stream.
  int RecordAt(uint64_t epoch, int place);
  /// The window of the crop from a record, whose label map is label_.
  Window ChooseWindow(uint64_t epoch, int record) const;
  /// Writes a window of image_ and label_ as a crop of the given size.
  void CopyWindow(const Window& window, int height, int width, Dtype* data,
      Dtype* label_data) const;

  const SegDataParameter seg_data_param_;
  shared_ptr<EncodedRecords> images_, labels_;
  vector<string> keys_;
  uint64_t position_, step_;  // in the stream
  vector<int> order_;         // of the records in order_epoch_
  uint64_t order_epoch_;
  Dtype mean_[3];
  cv::Mat image_, label_;  // the current record
};

}  // namespace caffe

#endif  // GCRF_SEG_DATA_LAYER_HPP_
