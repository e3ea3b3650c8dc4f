"""Triton's HTTP client, unmodified, against a server given as host:port. Exits with 1 at the first mismatch."""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


def status_of(call):
    """The HTTP status that a call fails with."""
    try:
        call()
    except InferenceServerException as error:
        assert error.message(), error
        return error.status()
    raise AssertionError("the call succeeded")


def tensor(name, values, datatype, binary):
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def check_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("simple") and client.is_model_ready("simple", "1")
    assert not client.is_model_ready("none") and not client.is_model_ready("simple", "7")
    assert client.get_server_metadata()["name"] == "kf-serve"
    metadata = client.get_model_metadata("simple", "1")
    assert metadata["name"] == "simple" and metadata["versions"] == ["1"], metadata
    assert metadata["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}, metadata
    index = client.get_model_repository_index()
    assert any(entry["name"] == "simple" and entry["state"] == "READY" for entry in index), index


def check_simple(client):
    first = np.arange(32, dtype=np.int32).reshape(2, 16)
    second = np.full((2, 16), 3, dtype=np.int32)
    for binary_in in (False, True):
        for binary_out in (False, True, None):
            inputs = [tensor("INPUT0", first, "INT32", binary_in), tensor("INPUT1", second, "INT32", binary_in)]
            outputs = None
            if binary_out is not None:
                outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("OUTPUT1", "OUTPUT0")]
            result = client.infer("simple", inputs, outputs=outputs, request_id="r-1", parameters={"mine": 1}, timeout=5_000_000, priority=1)
            assert result.get_response()["id"] == "r-1"
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), first + second)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first - second)
            assert result.as_numpy("NONE") is None
    only = client.infer("simple", inputs, model_version="1", outputs=[triton.InferRequestedOutput("OUTPUT1")])
    assert only.as_numpy("OUTPUT0") is None
    pending = [client.async_infer("simple", inputs) for _ in range(20)]
    for request in pending:
        np.testing.assert_array_equal(request.get_result().as_numpy("OUTPUT0"), first + second)


def check_datatypes(client):
    random = np.random.default_rng(7)
    for datatype in DATATYPES:
        dtype = triton_to_np_dtype(datatype)
        if datatype == "BOOL":
            values = random.integers(0, 2, (3, 5)).astype(bool)
        elif datatype.startswith("FP"):
            values = random.standard_normal((3, 5)).astype(dtype)
        else:
            info = np.iinfo(dtype)
            values = random.integers(info.min, info.max, (3, 5), dtype=dtype, endpoint=True)
            values[0, 0], values[0, 1] = info.min, info.max
        for shape in ((3, 5), (15, 1), (0, 4)):
            given = values.reshape(shape) if 0 not in shape else np.empty(shape, dtype)
            check_identity(client, datatype, given)


def check_identity(client, datatype, given):
    for binary_in in (False, True):
        for binary_out in (False, True):
            result = client.infer(
                f"identity_{datatype}",
                [tensor("IN", given, datatype, binary_in)],
                outputs=[triton.InferRequestedOutput("OUT", binary_data=binary_out)],
            )
            np.testing.assert_array_equal(result.as_numpy("OUT"), given, err_msg=f"{datatype} {binary_in} {binary_out}")


def check_bytes(client):
    given = np.array([["", "ä\n\"\\"], ["x" * 1000, "日本"]], dtype=np.object_)
    for binary_in in (False, True):
        for binary_out in (False, True):
            result = client.infer(
                "identity_BYTES",
                [tensor("IN", given, "BYTES", binary_in)],
                outputs=[triton.InferRequestedOutput("OUT", binary_data=binary_out)],
            )
            found = result.as_numpy("OUT")
            found = [[text.decode() if isinstance(text, bytes) else text for text in row] for row in found]
            assert found == given.tolist(), found
    raw = np.array([[b"\xff\x00"]], dtype=np.object_)
    assert client.infer("identity_BYTES", [tensor("IN", raw, "BYTES", True)]).as_numpy("OUT")[0, 0] == b"\xff\x00"


def check_bfloat16(client):
    try:
        import ml_dtypes
    except ImportError:
        return
    given = np.array([[1.5, -2.25, 3e38]], dtype=ml_dtypes.bfloat16)
    result = client.infer("identity_BF16", [tensor("IN", given, "BF16", True)])
    np.testing.assert_array_equal(result.as_numpy("OUT"), given)


def check_not_finite(client):
    for binary in (False, True):
        found = client.infer("not_finite", [], outputs=[triton.InferRequestedOutput("OUT", binary_data=binary)]).as_numpy("OUT")
        np.testing.assert_array_equal(found, np.array([np.nan, np.inf, -np.inf], dtype=np.float32))


def check_large(client):
    given = np.arange(200_000, dtype=np.float32).reshape(1000, 200)
    check_identity(client, "FP32", given)


def check_refusals(client):
    row = np.zeros((1, 16), dtype=np.int32)
    good = [tensor("INPUT0", row, "INT32", True), tensor("INPUT1", row, "INT32", True)]
    narrow = np.zeros((1, 15), dtype=np.int32)
    for binary in (False, True):
        wrong = [
            [],
            [tensor("INPUT0", row, "INT32", binary)],
            [*good, tensor("INPUT2", row, "INT32", binary)],
            [good[0], tensor("INPUT1", narrow, "INT32", binary)],
            [good[0], tensor("INPUT1", row.astype(np.int64), "INT64", binary)],
            [good[0], tensor("INPUT1", np.zeros((2, 16), dtype=np.int32), "INT32", binary)],
        ]
        for inputs in wrong:
            assert status_of(lambda: client.infer("simple", inputs)) == "400"
    lying = tensor("INPUT1", row, "INT32", True).set_shape([1, 17])
    assert status_of(lambda: client.infer("simple", [good[0], lying])) == "400"
    assert status_of(lambda: client.infer("simple", good, outputs=[triton.InferRequestedOutput("NONE")])) == "400"
    assert status_of(lambda: client.infer("none", good)) == "404"
    assert status_of(lambda: client.infer("simple", good, model_version="7")) == "404"
    assert status_of(lambda: client.get_model_metadata("none")) == "404"
    assert status_of(lambda: client.infer("simple", good, request_compression_algorithm="gzip")) == "415"
    large = np.zeros((1, 5 << 20), dtype=np.uint8)
    assert status_of(lambda: client.infer("identity_UINT8", [tensor("IN", large, "UINT8", True)])) == "413"


def check_control(client):
    client.unload_model("simple")
    assert not client.is_model_ready("simple")
    assert status_of(lambda: client.unload_model("simple")) == "404"
    assert status_of(lambda: client.load_model("none")) == "404"


def main():
    with triton.InferenceServerClient(sys.argv[1], concurrency=4, connection_timeout=30, network_timeout=30) as client:
        for check in (
            check_health_and_metadata,
            check_simple,
            check_datatypes,
            check_bytes,
            check_bfloat16,
            check_not_finite,
            check_large,
            check_refusals,
            check_control,
        ):
            check(client)
            print(check.__name__, "passed")


if __name__ == "__main__":
    main()
