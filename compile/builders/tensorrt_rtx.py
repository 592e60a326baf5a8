"""TensorRT for RTX: the builder of TensorRT, which here also builds for GPUs that are not in the machine."""

from .tensorrt import tensorrt_builder

BUILDER = tensorrt_builder("tensorrt_rtx", cross=True)
