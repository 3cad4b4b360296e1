"""caffe.io, which our patches repair: what it imports, and calls that newer libraries removed."""

import subprocess
import sys

import caffe
import cv2
import numpy as np
import pytest


def test_import_caffe_leaves_scikit_image_and_scipy_alone():
    code = "import sys, caffe; print(*{'skimage', 'scipy'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert not output.strip()


@pytest.mark.parametrize("color", [True, False])
def test_load_image_gives_floats_from_0_to_1(tmp_path, color):
    cv2.imwrite(str(tmp_path / "image.png"), np.full((4, 5, 3), 51, np.uint8))
    image = caffe.io.load_image(str(tmp_path / "image.png"), color)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, np.full((4, 5, 3 if color else 1), 0.2), rtol=1e-6)


@pytest.mark.parametrize("channels", [2, 3])  # by SciPy, and by scikit-image
def test_resize_image(channels):
    ramp = np.tile(np.arange(8, dtype=np.float32)[:, None, None], (1, 6, channels))
    resized = caffe.io.resize_image(ramp, (4, 3))
    assert resized.shape == (4, 3, channels)
    assert (np.diff(resized[:, 1, 0]) > 1).all()


def test_bytes_go_to_a_datum_and_back():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    back = caffe.io.datum_to_array(caffe.io.array_to_datum(array, label=1))
    np.testing.assert_array_equal(back, array)
    back[0] = 0  # the caller's own array
