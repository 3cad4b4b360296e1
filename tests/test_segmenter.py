"""gcrf.segmenter: images of any size through a deploy net."""

import caffe
import cv2
import numpy as np
import pytest
from small_voc import make_photo
from tiny_nets import write_deploy_nets

from gcrf import segmenter
from gcrf.caffemodel import read_caffemodel, write_caffemodel
from gcrf.segmenter import UNARY, Segmenter

MEAN = (104, 117, 123)  # integers, so that an image can be padded with it


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_deploy_nets(tmp_path_factory.mktemp("nets"))


@pytest.fixture(scope="module")
def network(files):
    return Segmenter(*files, mean_bgr=MEAN)


def photo(height, width):
    return make_photo(np.random.default_rng(height * width), height, width)


def test_an_8k_plus_1_image_is_just_a_forward_pass(network, files):
    image = photo(41, 57)
    net = caffe.Net(str(files[0]), str(files[1]), caffe.TEST)
    net.blobs["data"].reshape(1, 3, 41, 57)
    net.blobs["data"].data[0] = (image - np.array(MEAN, np.float32)).transpose(2, 0, 1)
    expected = net.forward()["scores"][0]
    np.testing.assert_array_equal(network.scores(image)[0], expected)
    labels = network.predict(image)
    assert labels.shape == (41, 57) and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected.argmax(axis=0))
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize(("height", "width"), [(41, 50), (34, 57), (36, 52), (40, 56), (1, 1)])
def test_padding_by_hand_makes_no_difference(height, width, network):
    image = photo(height, width)
    padded = np.full((-(-(height - 1) // 8) * 8 + 1, -(-(width - 1) // 8) * 8 + 1, 3), MEAN)
    padded[:height, :width] = image
    by_hand = network.scores(padded.astype(np.uint8))[0][:, :height, :width]
    np.testing.assert_array_equal(network.scores(image)[0], by_hand)


def test_earlier_images_leave_no_trace(network, files):
    image = photo(36, 52)
    network.predict(photo(70, 90))
    after_another = network.scores(image)[0]
    fresh = Segmenter(*files, mean_bgr=MEAN)
    np.testing.assert_array_equal(after_another, fresh.scores(image)[0])
    before = after_another.copy()
    network.predict(photo(36, 52)[::-1])
    np.testing.assert_array_equal(after_another, before)  # a copy, not a view of the net's buffers


def test_unary_of_the_same_pass_is_the_unary_net(network, files):
    alone = Segmenter(files[0].with_name("deploy_unary.prototxt"), files[1], mean_bgr=MEAN)
    image = photo(36, 52)
    both = network.scores(image, ["scores", UNARY])
    np.testing.assert_allclose(both[1], alone.scores(image)[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(both[0], network.scores(image)[0])
    assert np.abs(both[0] - both[1]).max() > 1e-3
    with pytest.raises(ValueError, match="no blob similarity"):
        alone.scores(image, ["similarity"])


def test_blobs_are_copies_as_in_the_net(network):
    image = photo(36, 52)
    blobs = network.blobs(image, ["similarity", "scores"])
    assert blobs["similarity"].shape == (1, 8, 6, 8)
    np.testing.assert_array_equal(blobs["scores"][0, :, :36, :52], network.scores(image)[0])
    before = blobs["similarity"].copy()
    network.predict(photo(36, 52)[::-1])
    np.testing.assert_array_equal(blobs["similarity"], before)
    assert network.blob_names[0] == "data" and network.blob_names[-1] == "scores"


def test_mirror_averages_with_the_mirror_image(network, files):
    image = photo(36, 52)
    mirrored = network.scores(image[:, ::-1])[0][:, :, ::-1]
    averaged = Segmenter(*files, mean_bgr=MEAN, mirror=True).scores(image)[0]
    np.testing.assert_allclose(averaged, (network.scores(image)[0] + mirrored) / 2, atol=1e-6)


def test_scales_average_over_resized_images(network, files):
    image = photo(36, 52)
    small = network.scores(cv2.resize(image, (26, 18)))[0]
    small = cv2.resize(small.transpose(1, 2, 0), (52, 36)).transpose(2, 0, 1)
    averaged = Segmenter(*files, mean_bgr=MEAN, scales=(0.5, 1)).scores(image)[0]
    np.testing.assert_allclose(averaged, (small + network.scores(image)[0]) / 2, atol=1e-6)


def test_probabilities_keep_the_order_and_sum_to_one():
    scores = np.array([[[0.5, -1]], [[1.5, -1]], [[-2, -3]]], np.float32)
    np.testing.assert_allclose(
        segmenter.probabilities(scores), [[[0.25, 1 / 3]], [[0.75, 1 / 3]], [[0, 1 / 3]]], atol=1e-6
    )


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)]
)
def test_what_is_no_colour_image_is_refused(image, network):
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), BGR"):
        network.predict(image)


def test_weights_of_another_network_are_refused(files, tmp_path):
    weights = read_caffemodel(files[1])
    del weights["unary/conv3_2"]
    write_caffemodel(tmp_path / "without.caffemodel", weights)
    with pytest.raises(ValueError, match="layer unary/conv3_2 has parameters of no values"):
        Segmenter(files[0], tmp_path / "without.caffemodel")
    others = write_deploy_nets(tmp_path / "others", num_classes=3)
    with pytest.raises(ValueError, match="expects"):
        Segmenter(files[0], others[1])


def test_missing_files_are_named(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.prototxt"):
        Segmenter(tmp_path / "none.prototxt", files[1])
    with pytest.raises(FileNotFoundError, match=r"none\.caffemodel"):
        Segmenter(files[0], tmp_path / "none.caffemodel")
