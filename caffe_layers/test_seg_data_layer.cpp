#include <boost/filesystem.hpp>
#include <gtest/gtest.h>
#include <opencv2/core/core.hpp>
#include <opencv2/imgcodecs/imgcodecs.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/util/db.hpp"
#include "caffe/util/io.hpp"

#include "caffe/test/test_caffe_main.hpp"

#include "seg_data_layer.hpp"

namespace caffe {

/// A file as it stands in a database.
string Encode(const cv::Mat& pixels, const string& format = ".png") {
  vector<uchar> bytes;
  CHECK(cv::imencode(format, pixels, bytes));
  return string(bytes.begin(), bytes.end());
}

/// A pixel at row h and column w is (B, G, R) = (h, w, 100) and of class
/// (h + 10 w) % 200, so that each value tells where it comes from.
cv::Mat Image(int height, int width) {
  cv::Mat image(height, width, CV_8UC3);
  for (int h = 0; h < height; ++h) {
    for (int w = 0; w < width; ++w) {
      image.at<cv::Vec3b>(h, w) = cv::Vec3b(h, w, 100);
    }
  }
  return image;
}
int Class(int h, int w) { return (h + 10 * w) % 200; }
cv::Mat Label(int height, int width) {
  cv::Mat label(height, width, CV_8UC1);
  for (int h = 0; h < height; ++h) {
    for (int w = 0; w < width; ++w) { label.at<uchar>(h, w) = Class(h, w); }
  }
  return label;
}

template <typename TypeParam>
class SegDataLayerTest : public MultiDeviceTest<TypeParam> {
  typedef typename TypeParam::Dtype Dtype;

 protected:
  virtual void SetUp() {
    MakeTempDir(&folder_);
    param_.set_name("voc");
    param_.set_phase(TRAIN);
    seg_data_param_ = param_.mutable_seg_data_param();
    seg_data_param_->set_image_source(folder_ + "/images");
    seg_data_param_->set_label_source(folder_ + "/labels");
    seg_data_param_->set_batch_size(1);
    seg_data_param_->set_num_classes(200);
    top_vec_ = {&data_, &label_};
  }
  virtual void TearDown() {
    layer_.reset();
    boost::filesystem::remove_all(folder_);
    Caffe::set_solver_count(1);
    Caffe::set_solver_rank(0);
  }

  /// Records "0", "1", ... of a database.
  void Write(const string& name, const vector<string>& files) {
    std::unique_ptr<db::DB> database(db::GetDB(DataParameter_DB_LMDB));
    database->Open(folder_ + "/" + name, db::NEW);
    std::unique_ptr<db::Transaction> transaction(database->NewTransaction());
    for (int i = 0; i < files.size(); ++i) {
      Datum datum;
      datum.set_encoded(true);
      datum.set_data(files[i]);
      transaction->Put(std::to_string(i), datum.SerializeAsString());
    }
    transaction->Commit();
  }
  void WriteOne(const cv::Mat& image, const cv::Mat& label) {
    Write("images", {Encode(image)});
    Write("labels", {Encode(label)});
  }
  /// Records of one pixel, whose class is the number of the record.
  void WriteNumbered(int count) {
    vector<string> images, labels;
    for (int i = 0; i < count; ++i) {
      images.push_back(Encode(Image(1, 1)));
      labels.push_back(Encode(cv::Mat(1, 1, CV_8UC1, cv::Scalar(i))));
    }
    Write("images", images);
    Write("labels", labels);
    seg_data_param_->set_crop_size(1);
  }

  void SetScale(float min, float max) {
    seg_data_param_->set_scale_min(min);
    seg_data_param_->set_scale_max(max);
  }
  /// Expects the parameters to be rejected, and goes back to good ones.
  void ExpectRejection(const LayerParameter& good, const char* reason) {
    EXPECT_DEATH(Forward(), reason);
    param_ = good;
    seg_data_param_ = param_.mutable_seg_data_param();
  }
  /// Runs the layer, which the first call makes.
  void Forward() {
    if (!layer_) {
      layer_.reset(new SegDataLayer<Dtype>(param_));
      layer_->SetUp(bottom_vec_, top_vec_);
    }
    layer_->Forward(bottom_vec_, top_vec_);
  }
  /// The classes that a new layer's first batches have.
  vector<int> Records(int batches) {
    layer_.reset();
    vector<int> records;
    for (int i = 0; i < batches; ++i) {
      Forward();
      const Dtype* classes = label_.cpu_data();
      records.insert(records.end(), classes, classes + label_.count());
    }
    return records;
  }
  void ExpectData(const vector<Dtype>& expected) {
    ASSERT_EQ(expected.size(), data_.count());
    for (int i = 0; i < data_.count(); ++i) {
      EXPECT_EQ(expected[i], data_.cpu_data()[i]) << "at " << i;
    }
  }
  void ExpectLabel(const vector<Dtype>& expected) {
    ASSERT_EQ(expected.size(), label_.count());
    for (int i = 0; i < label_.count(); ++i) {
      EXPECT_EQ(expected[i], label_.cpu_data()[i]) << "at " << i;
    }
  }

  string folder_;
  LayerParameter param_;
  SegDataParameter* seg_data_param_;
  Blob<Dtype> data_, label_;  // the layer owns their memory
  std::unique_ptr<SegDataLayer<Dtype>> layer_;
  vector<Blob<Dtype>*> bottom_vec_, top_vec_;
};

TYPED_TEST_CASE(SegDataLayerTest, TestDtypesAndDevices);

TYPED_TEST(SegDataLayerTest, WholeImageIsBgrMinusTheMean) {
  this->WriteOne(Image(2, 3), Label(2, 3));
  for (const float mean : {10.5f, 20.0f, 30.0f}) {
    this->seg_data_param_->add_mean_value(mean);
  }
  this->Forward();
  EXPECT_EQ("1 3 2 3 (18)", this->data_.shape_string());
  EXPECT_EQ("1 1 2 3 (6)", this->label_.shape_string());
  this->ExpectData({-10.5, -10.5, -10.5, -9.5, -9.5, -9.5,  // blue: row - 10.5
      -20, -19, -18, -20, -19, -18,                         // green: column
      70, 70, 70, 70, 70, 70});                             // red: 100
  this->ExpectLabel({0, 10, 20, 1, 11, 21});
}

TYPED_TEST(SegDataLayerTest, OneMeanValueIsForAllChannels) {
  this->WriteOne(Image(1, 1), Label(1, 1));
  this->seg_data_param_->add_mean_value(4);
  this->Forward();
  this->ExpectData({-4, -4, 96});
}

TYPED_TEST(SegDataLayerTest, TestPhaseCropsTheCentre) {
  this->WriteOne(Image(4, 7), Label(4, 7));
  this->param_.set_phase(TEST);
  this->seg_data_param_->set_crop_size(2);
  this->Forward();  // from row (4 - 2) / 2 = 1, column (7 - 2) / 2 = 2
  this->ExpectData({1, 1, 2, 2, 2, 3, 2, 3, 100, 100, 100, 100});
  this->ExpectLabel({21, 31, 22, 32});
}

TYPED_TEST(SegDataLayerTest, CropBeyondTheImageIsPaddedAtBottomAndRight) {
  this->WriteOne(Image(1, 2), Label(1, 2));
  this->seg_data_param_->set_crop_size(3);
  this->seg_data_param_->add_mean_value(1);
  this->seg_data_param_->set_ignore_label(201);
  this->Forward();
  this->ExpectData({-1, -1, 0, 0, 0, 0, 0, 0, 0,  // blue
      -1, 0, 0, 0, 0, 0, 0, 0, 0,                 // green
      99, 99, 0, 0, 0, 0, 0, 0, 0});              // red
  this->ExpectLabel({0, 10, 201, 201, 201, 201, 201, 201, 201});
}

TYPED_TEST(SegDataLayerTest, MirrorTurnsImageAndLabelButNotThePadding) {
  this->WriteOne(Image(1, 2), Label(1, 2));
  this->seg_data_param_->set_crop_size(3);
  this->seg_data_param_->set_mirror(true);
  this->param_.set_phase(TEST);
  int mirrored = 0;
  for (int i = 0; i < 100; ++i) {
    this->Forward();
    if (this->label_.cpu_data()[0] == 10) {
      ++mirrored;
      this->ExpectData({0, 0, 0, 0, 0, 0, 0, 0, 0,  // blue: row
          1, 0, 0, 0, 0, 0, 0, 0, 0,                // green: column
          100, 100, 0, 0, 0, 0, 0, 0, 0});          // red
      this->ExpectLabel({10, 0, 255, 255, 255, 255, 255, 255, 255});
    } else {
      this->ExpectLabel({0, 10, 255, 255, 255, 255, 255, 255, 255});
    }
  }
  EXPECT_GT(mirrored, 30);
  EXPECT_LT(mirrored, 70);
}

TYPED_TEST(SegDataLayerTest, TrainPhaseCropsImageAndLabelAlikeAllOverTheImage) {
  this->WriteOne(Image(5, 9), Label(5, 9));
  this->seg_data_param_->set_crop_size(3);
  this->seg_data_param_->set_mirror(true);
  std::set<std::pair<int, int>> corners;
  for (int i = 0; i < 500; ++i) {
    this->Forward();
    for (int h = 0; h < 3; ++h) {
      for (int w = 0; w < 3; ++w) {
        const int row = this->data_.data_at(0, 0, h, w);
        const int column = this->data_.data_at(0, 1, h, w);
        EXPECT_EQ(Class(row, column), this->label_.data_at(0, 0, h, w));
        EXPECT_EQ(row, this->data_.data_at(0, 0, 0, 0) + h);
      }
    }
    const int left = this->data_.data_at(0, 1, 0, 0);
    const int right = this->data_.data_at(0, 1, 0, 2);
    EXPECT_EQ(2, std::abs(left - right));
    corners.emplace(
        this->data_.data_at(0, 0, 0, 0), left - right > 0 ? -left : left);
  }
  EXPECT_EQ(3 * 7 * 2, corners.size());  // rows, columns, mirrored or not
}

TYPED_TEST(SegDataLayerTest, OnlyTheLargerAxisIsCroppedAtRandom) {
  this->WriteOne(Image(2, 9), Label(2, 9));
  this->seg_data_param_->set_crop_size(3);
  std::set<int> columns;
  for (int i = 0; i < 200; ++i) {
    this->Forward();
    const int column = this->data_.data_at(0, 1, 0, 0);
    columns.insert(column);
    EXPECT_EQ(0, this->data_.data_at(0, 0, 0, 0));
    EXPECT_EQ(Class(1, column), this->label_.data_at(0, 0, 1, 0));
    EXPECT_EQ(255, this->label_.data_at(0, 0, 2, 0));
  }
  EXPECT_EQ(7, columns.size());
}

/// An image whose three channels are alike.
cv::Mat Grey(int height, int width, const vector<uchar>& values) {
  cv::Mat grey(height, width, CV_8UC1, const_cast<uchar*>(values.data()));
  cv::Mat image;
  cv::merge(vector<cv::Mat>(3, grey), image);
  return image;
}

TYPED_TEST(SegDataLayerTest, FactorTwoInterpolatesImagesAndRepeatsLabels) {
  this->WriteOne(Grey(1, 2, {0, 100}), Label(1, 2));
  this->SetScale(2, 2);
  this->seg_data_param_->set_crop_size(4);
  this->Forward();  // columns -1/4, 1/4, 3/4 and 5/4, which the border clips
  for (int c = 0; c < 3; ++c) {
    for (int h = 0; h < 4; ++h) {
      for (int w = 0; w < 4; ++w) {
        const int row[] = {0, 25, 75, 100};
        EXPECT_EQ(h < 2 ? row[w] : 0, this->data_.data_at(0, c, h, w));
      }
    }
  }
  this->ExpectLabel(
      {0, 0, 10, 10, 0, 0, 10, 10, 255, 255, 255, 255, 255, 255, 255, 255});
}

TYPED_TEST(SegDataLayerTest, FactorOneHalfAveragesImagesAndSkipsLabels) {
  this->WriteOne(Grey(2, 4, {0, 10, 20, 30, 40, 50, 60, 70}), Label(2, 4));
  this->SetScale(0.5, 0.5);
  this->seg_data_param_->set_crop_size(2);
  this->Forward();
  this->ExpectData({25, 45, 0, 0, 25, 45, 0, 0, 25, 45, 0, 0});
  this->ExpectLabel({11, 31, 255, 255});  // row 1, columns 1 and 3
}

TYPED_TEST(SegDataLayerTest, ImageOfOnePixelKeepsOne) {
  this->WriteOne(Grey(1, 1, {7}), Label(1, 1));
  this->SetScale(0.125, 0.125);
  this->seg_data_param_->set_crop_size(2);
  this->Forward();
  this->ExpectData({7, 0, 0, 0, 7, 0, 0, 0, 7, 0, 0, 0});
  this->ExpectLabel({0, 255, 255, 255});
}

TYPED_TEST(SegDataLayerTest, CropOfOnePixelShowsOne) {
  this->WriteOne(Grey(1, 2, {7, 7}), Label(1, 2));
  this->SetScale(8, 8);
  this->seg_data_param_->set_crop_size(1);
  this->Forward();  // an eighth of a pixel
  this->ExpectData({7, 7, 7});
}

TYPED_TEST(SegDataLayerTest, ScaledWindowsLieAllOverTheImage) {
  this->WriteOne(10 * Image(5, 6), Label(5, 6));
  this->SetScale(2, 2);
  this->seg_data_param_->set_crop_size(4);
  std::set<std::pair<int, int>> corners;
  for (int i = 0; i < 500; ++i) {
    this->Forward();
    const int row = this->data_.data_at(0, 0, 0, 0) / 10;
    const int column = this->data_.data_at(0, 1, 0, 0) / 10;
    corners.emplace(row, column);
    for (int h = 0; h < 4; ++h) {
      for (int w = 0; w < 4; ++w) {
        EXPECT_EQ(Class(row + h / 2, column + w / 2),
            this->label_.data_at(0, 0, h, w));
        const int tenths[] = {0, 3, 8, 10};  // 2.5 and 7.5 rounded
        EXPECT_EQ(10 * row + tenths[h], this->data_.data_at(0, 0, h, w));
        EXPECT_EQ(10 * column + tenths[w], this->data_.data_at(0, 1, h, w));
      }
    }
  }
  EXPECT_EQ(4 * 5, corners.size());
}

TYPED_TEST(SegDataLayerTest, FactorsAreUniformAndTheSameOnBothAxes) {
  this->WriteOne(Image(40, 40), cv::Mat::zeros(40, 40, CV_8UC1));
  this->SetScale(0.5, 2);
  this->seg_data_param_->set_crop_size(81);  // holds the largest
  vector<int> sizes(82);
  for (int i = 0; i < 3000; ++i) {
    this->Forward();
    const auto shown = [&](int h, int w) {
      return this->label_.data_at(0, 0, h, w) == 0;
    };
    int size = 0;
    while (shown(size, 0)) { ++size; }
    EXPECT_TRUE(shown(0, size - 1));
    EXPECT_FALSE(shown(0, size));
    ++sizes[size];
  }
  EXPECT_EQ(0, std::accumulate(&sizes[0], &sizes[20], 0));
  EXPECT_EQ(0, sizes[81]);
  EXPECT_GT(sizes[20], 0);
  EXPECT_GT(sizes[80], 0);
  for (int size = 21; size < 80; size += 10) {  // 500 expected, deviation 20
    const int count = std::accumulate(&sizes[size], &sizes[size + 10], 0);
    EXPECT_GT(count, 400) << "from " << size;
    EXPECT_LT(count, 600) << "from " << size;
  }
}

TYPED_TEST(SegDataLayerTest, TestPhaseDoesNotScale) {
  this->WriteOne(Image(4, 7), Label(4, 7));
  this->param_.set_phase(TEST);
  this->SetScale(2, 3);
  this->seg_data_param_->set_crop_size(2);
  this->Forward();
  this->ExpectData({1, 1, 2, 2, 2, 3, 2, 3, 100, 100, 100, 100});
  this->ExpectLabel({21, 31, 22, 32});
}

TYPED_TEST(SegDataLayerTest, FactorsDependOnNeitherPrefetchNorBatchSize) {
  vector<string> images, labels;
  for (int i = 0; i < 7; ++i) {
    images.push_back(Encode(Image(10 + i, 30 - i)));
    labels.push_back(Encode(Label(10 + i, 30 - i)));
  }
  this->Write("images", images);
  this->Write("labels", labels);
  this->seg_data_param_->set_crop_size(20);
  this->seg_data_param_->set_shuffle(true);
  this->SetScale(0.5, 2);
  this->seg_data_param_->set_prefetch(1);
  const vector<int> classes = this->Records(30);
  this->seg_data_param_->set_prefetch(9);
  EXPECT_EQ(classes, this->Records(30));
  this->seg_data_param_->set_batch_size(5);
  EXPECT_EQ(classes, this->Records(6));
  this->seg_data_param_->set_seed(1);
  EXPECT_NE(classes, this->Records(6));
}

TYPED_TEST(SegDataLayerTest, WithoutCropSizeEachRecordKeepsItsSize) {
  this->Write("images", {Encode(Image(2, 3)), Encode(Image(4, 1))});
  this->Write("labels", {Encode(Label(2, 3)), Encode(Label(4, 1))});
  for (int i = 0; i < 5; ++i) {
    this->Forward();
    EXPECT_EQ("1 3 2 3 (18)", this->data_.shape_string());
    this->ExpectLabel({0, 10, 20, 1, 11, 21});
    this->Forward();
    EXPECT_EQ("1 3 4 1 (12)", this->data_.shape_string());
    this->ExpectLabel({0, 1, 2, 3});
  }
}

TYPED_TEST(SegDataLayerTest, JpegIsReadAsBgr) {
  const cv::Mat image(16, 16, CV_8UC3, cv::Scalar(200, 50, 100));
  this->Write("images", {Encode(image, ".jpg")});
  this->Write("labels", {Encode(Label(16, 16))});
  this->Forward();
  for (int i = 0; i < 256; ++i) {
    EXPECT_NEAR(200, this->data_.cpu_data()[i], 2);
    EXPECT_NEAR(50, this->data_.cpu_data()[256 + i], 2);
    EXPECT_NEAR(100, this->data_.cpu_data()[512 + i], 2);
  }
}

TYPED_TEST(SegDataLayerTest, GreyImageHasThreeEqualChannels) {
  const cv::Mat grey(2, 2, CV_8UC1, cv::Scalar(77));
  this->Write("images", {Encode(grey, ".jpg"), Encode(grey, ".png")});
  this->Write("labels", {Encode(Label(2, 2)), Encode(Label(2, 2))});
  this->seg_data_param_->set_batch_size(2);
  this->seg_data_param_->set_crop_size(2);
  this->Forward();
  for (int i = 0; i < 24; ++i) { EXPECT_EQ(77, this->data_.cpu_data()[i]); }
}

TYPED_TEST(SegDataLayerTest, BatchesRunOnFromOneEpochToTheNext) {
  this->WriteNumbered(5);
  this->seg_data_param_->set_batch_size(3);
  EXPECT_EQ(vector<int>({0, 1, 2, 3, 4, 0, 1, 2, 3}), this->Records(3));
}

TYPED_TEST(SegDataLayerTest, ShuffledEpochsAreDifferentPermutations) {
  this->WriteNumbered(50);
  this->seg_data_param_->set_shuffle(true);
  const vector<int> records = this->Records(150);
  std::set<vector<int>> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    vector<int> seen(
        records.begin() + 50 * epoch, records.begin() + 50 * (epoch + 1));
    epochs.insert(seen);
    std::sort(seen.begin(), seen.end());
    for (int i = 0; i < 50; ++i) { EXPECT_EQ(i, seen[i]); }
  }
  EXPECT_EQ(3, epochs.size());
  EXPECT_EQ(records, this->Records(150));
  this->seg_data_param_->set_seed(1);
  EXPECT_NE(records, this->Records(150));
}

TYPED_TEST(SegDataLayerTest, PrefetchDoesNotChangeTheStream) {
  this->WriteNumbered(7);
  this->seg_data_param_->set_shuffle(true);
  this->seg_data_param_->set_prefetch(1);
  const vector<int> records = this->Records(30);
  this->seg_data_param_->set_prefetch(9);
  EXPECT_EQ(records, this->Records(30));
}

TYPED_TEST(SegDataLayerTest, SolversShareTheStreamOfOne) {
  this->WriteNumbered(7);
  this->seg_data_param_->set_shuffle(true);
  this->seg_data_param_->set_rand_skip(5);
  const vector<int> alone = this->Records(30);
  Caffe::set_solver_count(3);
  for (int rank = 0; rank < 3; ++rank) {
    Caffe::set_solver_rank(rank);
    const vector<int> records = this->Records(10);
    for (int i = 0; i < 10; ++i) { EXPECT_EQ(alone[3 * i + rank], records[i]); }
  }
}

TYPED_TEST(SegDataLayerTest, TestPhaseReadsAllRecordsWhateverTheSolvers) {
  this->WriteNumbered(4);
  this->param_.set_phase(TEST);
  Caffe::set_solver_count(3);
  EXPECT_EQ(vector<int>({0, 1, 2, 3, 0}), this->Records(5));
}

TYPED_TEST(SegDataLayerTest, RandSkipStartsBelowItAndFollowsTheSeed) {
  this->WriteNumbered(10);
  this->seg_data_param_->set_rand_skip(4);
  std::set<int> starts;
  for (int seed = 0; seed < 40; ++seed) {
    this->seg_data_param_->set_seed(seed);
    const vector<int> records = this->Records(2);
    EXPECT_EQ(records[0] + 1, records[1]);
    starts.insert(records[0]);
  }
  EXPECT_EQ(std::set<int>({0, 1, 2, 3}), starts);
}

TYPED_TEST(SegDataLayerTest, TwoLayersMayReadTheSameDatabases) {
  this->WriteNumbered(3);
  SegDataLayer<typename TypeParam::Dtype> layer(this->param_);
  layer.SetUp(this->bottom_vec_, this->top_vec_);
  EXPECT_EQ(vector<int>({0, 1, 2}), this->Records(3));
  layer.Forward(this->bottom_vec_, this->top_vec_);
  this->ExpectLabel({0});
}

TYPED_TEST(SegDataLayerTest, TheLastClassAndTheIgnoreLabelAreAccepted) {
  cv::Mat label(1, 3, CV_8UC1, cv::Scalar(20));
  label.at<uchar>(0, 1) = 255;
  this->WriteOne(Image(1, 3), label);
  this->seg_data_param_->set_num_classes(21);
  this->Forward();
  this->ExpectLabel({20, 255, 20});
}

TYPED_TEST(SegDataLayerTest, LabelOutOfRangeStopsWithItsPlace) {
  cv::Mat label(4, 40, CV_8UC1, cv::Scalar(20));
  label.at<uchar>(2, 35) = 21;
  this->WriteOne(Image(4, 40), label);
  this->seg_data_param_->set_num_classes(21);
  this->seg_data_param_->set_crop_size(1);  // the check is of the whole map
  EXPECT_DEATH(this->Forward(),
      "label_source \".*labels\": record \"0\" has the label 21 at row 2, "
      "column 35, expected 0..20 or ignore_label 255");
}

TYPED_TEST(SegDataLayerTest, TruncatedImageStopsWithItsKey) {
  const string jpeg = Encode(Image(64, 64), ".jpg");
  const string png = Encode(Image(64, 64), ".png");
  this->Write("images", {jpeg, jpeg.substr(0, jpeg.size() - 20)});
  this->Write("labels", {Encode(Label(64, 64)), Encode(Label(64, 64))});
  this->param_.set_phase(TEST);
  this->seg_data_param_->set_crop_size(8);  // what is lost is not even in it
  this->seg_data_param_->set_batch_size(2);
  EXPECT_DEATH(this->Forward(),
      "Layer voc: image_source \".*images\": record \"1\" can't be decoded: "
      ".*prepare_lmdb.py");
  boost::filesystem::remove_all(this->folder_ + "/images");
  this->Write("images", {jpeg, png.substr(0, png.size() / 2)});
  EXPECT_DEATH(this->Forward(), "images\": record \"1\" can't be decoded");
}

TYPED_TEST(SegDataLayerTest, BytesThatAreNoImageStopWithTheirKey) {
  this->Write("images", {""});
  this->Write("labels", {Encode(Label(1, 1))});
  EXPECT_DEATH(this->Forward(), "images\": record \"0\" can't be decoded");
  boost::filesystem::remove_all(this->folder_ + "/images");
  this->Write("images", {"\xFF\xD8\xFF"});
  EXPECT_DEATH(this->Forward(), "images\": record \"0\" can't be decoded");
}

TYPED_TEST(SegDataLayerTest, LabelMapThatIsNoGreyPngStopsWithItsKey) {
  cv::Mat wide;
  Label(2, 2).convertTo(wide, CV_16U);
  const vector<int> one_bit = {cv::IMWRITE_PNG_BILEVEL, 1};
  vector<uchar> bilevel;
  CHECK(cv::imencode(".png", Label(2, 2), bilevel, one_bit));
  string palette = Encode(Label(2, 2));
  palette[25] = 3;  // the colour type
  const string label = Encode(Label(2, 2));
  this->Write("images", {Encode(Image(2, 2))});
  for (const string& bad :
      {Encode(Image(2, 2)), Encode(wide), palette, Encode(Label(2, 2), ".jpg"),
          string(bilevel.begin(), bilevel.end()), label.substr(0, 20)}) {
    this->Write("labels", {bad});
    EXPECT_DEATH(this->Forward(),
        "labels\": record \"0\" can't be decoded: not an 8-bit greyscale PNG");
    boost::filesystem::remove_all(this->folder_ + "/labels");
  }
  this->Write("labels", {label.substr(0, label.size() - 20)});
  EXPECT_DEATH(this->Forward(), "labels\": record \"0\" can't be decoded");
}

TYPED_TEST(SegDataLayerTest, ImageAndLabelOfDifferentSizesStop) {
  this->WriteOne(Image(2, 3), Label(3, 2));
  EXPECT_DEATH(this->Forward(),
      "image_source \".*images\": record \"0\" is 3 x 2 pixels, its label map "
      "2 x 3, expected the same size");
}

TYPED_TEST(SegDataLayerTest, RecordThatIsNotEncodedStops) {
  Datum datum;
  datum.set_data("raw");
  std::unique_ptr<db::DB> database(db::GetDB(DataParameter_DB_LMDB));
  database->Open(this->folder_ + "/images", db::NEW);
  std::unique_ptr<db::Transaction> transaction(database->NewTransaction());
  transaction->Put("0", datum.SerializeAsString());
  transaction->Commit();
  this->Write("labels", {Encode(Label(1, 1))});
  EXPECT_DEATH(this->Forward(),
      "record \"0\" is .* bytes that are not a Datum message with an encoded");
}

TYPED_TEST(SegDataLayerTest, KeysOutOfStepStopWithTheFirstThatDiffers) {
  this->Write("images", {Encode(Image(1, 1)), Encode(Image(1, 1))});
  this->Write("labels", {Encode(Label(1, 1))});
  EXPECT_DEATH(this->Forward(),
      "images\" has 2 records, .*labels\" has 1, expected the same keys in "
      "both. Record 1 is the first that differs: \"1\" and \"\\(none\\)\"");
}

TYPED_TEST(SegDataLayerTest, MissingOrEmptyDatabaseStops) {
  EXPECT_DEATH(this->Forward(),
      "Layer voc: image_source \".*images\" can't be opened: No such file");
  this->Write("images", {});
  this->Write("labels", {});
  EXPECT_DEATH(this->Forward(), "images\" has no records");
}

TYPED_TEST(SegDataLayerTest, WrongParametersAreRejectedWithAReason) {
  this->WriteNumbered(1);
  const LayerParameter good = this->param_;
  this->param_.mutable_transform_param()->set_mirror(true);
  this->ExpectRejection(
      good, "Layer voc: transform_param and data_param are not read");
  this->param_.mutable_data_param()->set_prefetch(2);
  this->ExpectRejection(good, "transform_param and data_param are not read");
  this->seg_data_param_->clear_label_source();
  this->ExpectRejection(good, "label_source is \"\", expected two LMDBs");
  this->seg_data_param_->clear_batch_size();
  this->ExpectRejection(good, "batch_size is 0, expected at least 1");
  this->seg_data_param_->clear_crop_size();
  this->seg_data_param_->set_batch_size(2);
  this->ExpectRejection(good, "batch_size is 2 without crop_size, expected 1");
  this->seg_data_param_->add_mean_value(1);
  this->seg_data_param_->add_mean_value(2);
  this->ExpectRejection(good, "mean_value is given 2 times");
  for (const auto& range : {std::make_pair(0.f, 1.f), std::make_pair(-1.f, 1.f),
           std::make_pair(0.12f, 1.f), std::make_pair(2.f, 1.f),
           std::make_pair(1.f, 8.1f), std::make_pair(1.f, NAN)}) {
    this->SetScale(range.first, range.second);
    this->ExpectRejection(good,
        "Layer voc: scale_min is .* and scale_max is .*, expected 0.125 <= "
        "scale_min <= scale_max <= 8");
  }
  this->SetScale(1, 2);
  this->seg_data_param_->clear_crop_size();
  this->ExpectRejection(
      good, "scale_min is 1 and scale_max is 2 without crop_size, expected 1");
  this->seg_data_param_->clear_num_classes();
  this->ExpectRejection(good, "num_classes is 0, expected 1..256");
  this->seg_data_param_->set_ignore_label(256);
  this->ExpectRejection(good, "ignore_label is 256, expected 0..255");
  this->seg_data_param_->set_prefetch(0);
  this->ExpectRejection(good, "prefetch is 0, expected at least 1");
}

}  // namespace caffe
