"""OpenVINO's side: whole models from ONNX files, in f32 (by itself it may take bf16)."""

import openvino

from inputs import sample, values

threads = 1


def set_threads(count):
    global threads
    threads = count


def versions():
    return {"openvino": openvino.__version__}


def prepare(request):
    """A compiled model for one request at a time, its input shared once."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    compiled = openvino.Core().compile_model(request["onnx"], "CPU", settings)
    images = values(0, tuple(compiled.input(0).shape))
    shared = openvino.Tensor(images, shared_memory=True)
    infer = compiled.create_infer_request()
    infer.set_input_tensor(shared)

    # The request does not keep the memory of its input alive.
    def work(images=images, shared=shared):
        infer.infer()

    work()
    return work, sample(infer.get_output_tensor(0).data[0])
