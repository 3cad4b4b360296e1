"""A trained network as one function from an image to its label map.

Example:
    segmenter = Segmenter.shipped()  # or Segmenter("deploy.prototxt", "trained.caffemodel")
    labels = segmenter.predict(cv2.imread("street.jpg"))
"""

import re

import cv2
import numpy as np

from gcrf import shipped
from gcrf.caffemodel import load_net, read_caffemodel
from gcrf.nets import MEAN_BGR, STRIDE
from python_layers import interp

SCORES = "scores"  # the deploy nets' result
SIZE_LAYER = re.compile(r"size_must_be_(\d+)k_plus_1")  # of the deploy nets
UNARY = "unary/softmax"  # in a deploy net: the result of its unary network alone, on the grid


class Segmenter:
    """A deploy net with weights, for images of any size.

    An image is padded with the mean colour, at the bottom and on the right, to the next size that
    the net takes (its layer size_must_be_8k_plus_1 says which). The scores are cropped back.

    Not thread-safe: an instance holds one network and its buffers. Give each thread its own, or
    use a lock. Threads gain no speed, since pycaffe holds Python's interpreter lock while a network
    runs (the network itself uses all cores); processes do.
    """

    def __init__(self, deploy, weights, *, mean_bgr=MEAN_BGR, scales=(1.0,), mirror=False):
        """Load a deploy prototxt with the weights of a .caffemodel.

        scales, mirror: average the scores over the image resized by each factor, and over the
        image and its mirror image. Raises OSError for an unreadable file, ValueError for weights
        of another network.
        """
        self._net = load_net(deploy, read_caffemodel(weights), weights)
        self._net.copy_from(str(weights))
        sizes = [SIZE_LAYER.fullmatch(name) for name in self._net._layer_names]
        self._size_step = next((int(match[1]) for match in sizes if match), STRIDE)
        self._mean = np.array(mean_bgr, np.float32).reshape(3, 1, 1)
        self._scales, self._mirror = tuple(scales), mirror
        self.num_classes = self._net.blobs[SCORES].channels

    @classmethod
    def shipped(cls, **options):
        """Return a Segmenter of the trained model that comes with the project: VOC's 21 classes.

        options: as for the constructor. Raises FileNotFoundError if `make` has not made it.
        """
        return cls(*shipped.network_files(), **options)

    def predict(self, image):
        """Return the class of each pixel, (H, W) uint8, of an image, (H, W, 3) uint8 BGR."""
        return labels(self.scores(image)[0])

    def scores(self, image, blobs=(SCORES,)):
        """Return the class scores (K, H, W) float32 that each of the blobs holds for an image.

        image: (H, W, 3) uint8, BGR. A blob at grid resolution, such as UNARY, is interpolated like
        the net's own result. All blobs come from the same passes.
        """
        self._check(image, blobs)
        height, width = image.shape[:2]
        totals = [0] * len(blobs)
        for scale in self._scales:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            scaled = image if scale == 1 else cv2.resize(image, size)
            for mirrored in (False, True) if self._mirror else (False,):
                passed = self._pass(scaled[:, ::-1] if mirrored else scaled, blobs)
                for index, scores in enumerate(passed):
                    upright = scores[:, :, ::-1] if mirrored else scores
                    totals[index] = totals[index] + _resize(upright, height, width)
        passes = len(self._scales) * (2 if self._mirror else 1)
        return [total / passes for total in totals]

    @property
    def mean_name(self):
        """The name of the blob on the grid whose upsampling the scores are."""
        return self._net.bottom_names[SCORES][0]

    @property
    def compatibility(self):
        """C = R R', (K, K) float32, of the whole deploy net."""
        R = self._net.params["compatibility"][0].data
        return R @ R.T

    @property
    def blob_names(self):
        """The names of the net's blobs, in the order in which it computes them."""
        return list(self._net.blobs)

    def blobs(self, image, names):
        """Return copies of blobs, {name: array as in the net}, after one pass over an image.

        image: (H, W, 3) uint8, BGR, neither mirrored nor scaled. The cells of the net's grid lie on
        every STRIDE-th pixel of the padded image, starting with pixel 0.
        """
        self._check(image, names)
        self._forward(image)
        return {name: self._net.blobs[name].data.copy() for name in names}

    def _check(self, image, blobs):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3), BGR")
        for blob in blobs:
            if blob not in self._net.blobs:
                raise ValueError(f"the net has no blob {blob}; expected the whole deploy net")

    def _forward(self, image):
        """Run the net on an image; return the size, (height, width), that it is padded to."""
        height, width = image.shape[:2]
        data = self._net.blobs["data"]
        padded = next_size(height, self._size_step), next_size(width, self._size_step)
        if data.data.shape != (1, 3, *padded):
            data.reshape(1, 3, *padded)
            self._net.reshape()
        data.data[...] = 0  # the mean, after subtraction
        data.data[0, :, :height, :width] = image.transpose(2, 0, 1) - self._mean
        self._net.forward()
        return padded

    def _pass(self, image, blobs):
        """Run the net once; return views of the blobs' scores at the image's size."""
        (height, width), padded = image.shape[:2], self._forward(image)
        results = []
        for blob in blobs:
            scores = self._net.blobs[blob].data
            if scores.shape[2:] != padded:
                scores = interp.forward(scores, height=padded[0], width=padded[1])
            results.append(scores[0, :, :height, :width])
        return results


def labels(scores):
    """Return the class with the highest score for each pixel, (H, W) uint8; scores: (K, H, W)."""
    return scores.argmax(axis=0).astype(np.uint8)


def probabilities(scores):
    """Return scores (K, H, W) as probabilities: clipped at 0, then normalised at each pixel.

    The scores of the Gaussian CRF are its estimate of r, a probability, and keep their order.
    """
    positive = np.maximum(scores, np.finfo(np.float32).tiny)
    return positive / positive.sum(axis=0)


def next_size(size, step=STRIDE):
    """Return the least step * k + 1 that holds `size` pixels."""
    return -(-(size - 1) // step) * step + 1


def _resize(scores, height, width):
    if scores.shape[1:] == (height, width):
        return scores
    planes = np.ascontiguousarray(scores)
    return np.stack([cv2.resize(plane, (width, height)) for plane in planes])
