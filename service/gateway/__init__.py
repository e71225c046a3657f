"""The Jupyter gateway: sessions as kernels, for `jupyter lab --gateway-url` and similar clients."""
