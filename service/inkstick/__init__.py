"""Inkstick: documents in, text out, no network."""

import os

# ONNX Runtime ships telemetry that is on by default from 1.29 (and `import pymupdf` imports it). The variable must
# be set before the first import of either; the API call that turns it off comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
