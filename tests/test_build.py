"""The build: what `make` does when something is missing, and what env.sh gives."""

import math

import caffe
import pytest


def test_caffe_parameters_of_the_crf_layers_have_their_defaults():
    layer = caffe.proto.caffe_pb2.LayerParameter()
    assert layer.gmf_param.window == layer.similarity_param.window == 23
    assert layer.similarity_loss_param.threshold == pytest.approx(math.exp(-10))
