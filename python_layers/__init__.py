"""The layers of the Gaussian CRF network in NumPy: see numpy_layer.py."""
