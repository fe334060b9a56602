"""Devices: the door, transfers, memory, and how each runs what it has no kernel for."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest
from conftest import DEVICES, StandInCupy, make, missing

from gpunet import compile, losses, nn, ops
from gpunet.devices import Device, cpu, environment, select
from gpunet.devices.cpu import CPU, KERNELS
from gpunet.devices.cuda import CUDA
from gpunet.engine import Tensor, tensor
from gpunet.errors import ConfigError, DeviceError

# ---------------------------------------------------------------- the door


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """select, as in a fresh process."""
    monkeypatch.setattr(select, "_opened", {})
    monkeypatch.setattr(select, "_reasons", {})
    return monkeypatch


def with_cupy(door: pytest.MonkeyPatch) -> None:
    door.setattr(environment, "cuda_problem", lambda: None)
    door.setitem(sys.modules, "cupy", StandInCupy())


def test_a_device_is_opened_once_and_passes_through() -> None:
    assert select.device("cpu") is select.device("cpu")
    own = CPU(native=False)
    assert select.device(own) is own


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0"])
def test_a_name_that_is_no_device(name: str) -> None:
    with pytest.raises(ConfigError, match=rf'no device "{name}". Devices: auto, cpu, cuda, cuda:0'):
        select.device(name)


def test_cuda_that_is_not_there_says_what_is_missing(door: pytest.MonkeyPatch) -> None:
    door.setattr(environment, "cuda_problem", lambda: 'CuPy is not installed: pip install "gpunet[cuda13]"')
    with pytest.raises(DeviceError, match="device cuda: CuPy is not installed: pip install") as caught:
        select.device("cuda")
    assert caught.value.exit_code == 4


def test_auto_falls_back_with_one_line_that_says_why(
    door: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    door.setattr(environment, "cuda_problem", lambda: "no NVIDIA driver")
    with caplog.at_level(logging.INFO, "gpunet"):
        assert select.device("auto") is select.device("auto") is select.device("cpu")
    assert [record.getMessage() for record in caplog.records] == ["device auto: the CPU (no NVIDIA driver)"]


def test_auto_takes_the_gpu_where_there_is_one(door: pytest.MonkeyPatch) -> None:
    with_cupy(door)
    assert select.device("auto") is select.device("cuda") is select.device("cuda:0")
    assert select.device("cuda:1").name == "cuda:1"


def test_a_gpu_beyond_the_last(door: pytest.MonkeyPatch) -> None:
    with_cupy(door)
    with pytest.raises(DeviceError, match="device cuda:2: there are 2, numbered from 0"):
        select.device("cuda:2")


def test_missing_kernels_are_an_error_where_they_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = type("Settings", (), {"require_native": True, "isa": None, "threads": 1, "device": None})
    monkeypatch.setattr(cpu, "_native", None)
    monkeypatch.setattr(environment, "settings", lambda: wanted)
    monkeypatch.setattr(environment, "native_problem", lambda: environment.Problem("not built", "sudo apt install g++"))
    with pytest.raises(DeviceError, match="GPUNET_REQUIRE_NATIVE is set, but .* not built: sudo apt install g\\+\\+"):
        cpu.open_cpu()


def test_without_kernels_the_cpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_native", None)
    assert "the C++ kernels are not built" in CPU().description


@pytest.mark.parametrize("name", DEVICES)
def test_the_tests_run_on_every_device(name: str) -> None:
    reason = missing(name)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    assert make(name).kind == ("cuda" if name in ("standin", "emulated", "cuda") else "cpu")


# ---------------------------------------------------------------- memory and transfers


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])
def test_a_round_trip_changes_nothing(device: Device, dtype: Any) -> None:
    for shape in ((), (0,), (3,), (2, 0, 3), (4, 5)):
        array = np.resize([0, 1, 2], shape).astype(dtype)
        back = device.download(device.upload(array))
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, array, strict=True)


def test_memory_is_told_or_unknown(device: Device) -> None:
    memory = device.memory()
    assert memory is None or 0 < memory.free <= memory.total


def test_description_and_synchronize(device: Device) -> None:
    device.synchronize()
    assert device.description.startswith(device.name)
    assert device.description in repr(device)


def test_scatter_add_with_repeated_rows(device: Device) -> None:
    random = np.random.default_rng(0)
    for shape, tail in (((0,), (3,)), ((1,), ()), ((1023,), (4,)), ((7, 9), (2, 3))):
        rows, g = random.integers(0, 5, shape), random.normal(size=shape + tail)
        want = np.zeros((5, *tail))
        np.add.at(want, rows, g)
        got = ops.scatter_add(tensor(g, device=device), tensor(rows, device=device), n=5)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


def test_scatter_add_has_the_same_bits_every_time(device: Device) -> None:
    random = np.random.default_rng(0)
    rows = tensor(random.integers(0, 3, 1023), device=device)
    g = tensor(random.normal(size=(1023, 3)).astype(np.float32), device=device)
    assert len({ops.scatter_add(g, rows, n=3).numpy().tobytes() for _ in range(3)}) == 1


def test_moving_a_tensor(standin: CUDA) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    there = x.to(standin)
    assert there.device is standin and there.is_leaf and there.requires_grad
    (there * 2).sum().backward()
    assert there.grad.tolist() == [2, 2] and x.grad is None
    back = there.to("cpu")
    assert back.device.name == "cpu" and back.tolist() == [1, 2]
    assert x.to("cpu") is x
    assert repr(there) == "Tensor([1., 2.], device=cuda:1, requires_grad=True)"


def mixes() -> dict[str, Any]:
    """What brings host memory and a GPU together; each is given the GPU."""
    host = np.ones((3, 4), np.float32)
    here = tensor(host)

    def net(device: Device) -> Any:
        return nn.MLP(4, 8, 2).initialize(0).to(device)

    return {
        "an array into a model": lambda gpu: net(gpu)(host),
        "a Tensor into a model": lambda gpu: net(gpu)(here),
        "a GPU's Tensor into a model here": lambda gpu: net(CPU(native=False))(tensor(host, device=gpu)),
        "an array into a compiled model": lambda gpu: compile(net(gpu))(host),
        "a Tensor into a compiled model": lambda gpu: compile(net(gpu))(here),
        "a Tensor into a program made for the GPU's": lambda gpu: list(map(compile(net(gpu)), (tensor(host, device=gpu), here))),
        "a GPU's Tensor into a compiled model here": lambda gpu: compile(net(CPU()))(tensor(host, device=gpu)),
        "targets of a loss": lambda gpu: losses.cross_entropy(net(gpu)(tensor(host, device=gpu)), tensor(np.zeros(3, np.int64))),
        "an array of targets": lambda gpu: losses.cross_entropy(net(gpu)(tensor(host, device=gpu)), np.zeros(3, np.int64)),
        "a state's new value": lambda gpu: tensor(host, device=gpu).assign(here),
    }  # fmt: skip


@pytest.mark.parametrize("mix", mixes())
def test_a_mix_of_devices_is_an_error_that_names_both(mix: str) -> None:
    with pytest.raises(DeviceError, match=r"(cuda:0.*(cpu|host memory)|(cpu|host memory).*cuda:0).*(\.to\(|gpunet\.tensor\()"):
        mixes()[mix](CUDA(0, StandInCupy(), kernels=False))


def test_numbers_go_anywhere() -> None:
    x = tensor(np.ones((3, 4), np.float32), device=CUDA(0, StandInCupy(), kernels=False))
    assert (x * 2.0).tolist() == compile(lambda t: t * 2.0)(x).tolist()


def failing(cupy: Any, name: str, error: Exception) -> None:
    def fail(*args: Any, **settings: Any) -> None:
        raise error

    setattr(cupy, name, fail)


def test_out_of_memory_says_how_much_and_the_way_out() -> None:
    class OutOfMemoryError(MemoryError):
        pass

    device = CUDA(0, StandInCupy(), kernels=False)
    failing(device.xp, "asarray", OutOfMemoryError("cudaErrorMemoryAllocation"))
    with pytest.raises(DeviceError, match=r"cuda:0: out of memory: 8\.0 MiB wanted, 3,072\.0 of 4,096\.0 MiB free. Use a smaller"):
        device.upload(np.zeros(1 << 20))
    failing(device.xp, "empty", OutOfMemoryError())
    with pytest.raises(DeviceError, match="out of memory") as caught:
        device.empty((1 << 10, 1 << 10), np.float32)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no CUDA headers\nmore"), r"NVRTC.* is missing \(no CUDA headers\): pip install --force-reinstall"),
        (ImportError("libnvrtc.so.13: cannot open"), r"libnvrtc.so.13: cannot open\): pip install .*gpunet\[cuda13\]"),
        (type("CompileException", (Exception,), {})("a.cu(3): error"), r"gpunet::activation<.*> does not compile \(a.cu\(3\)"),
    ],
)  # fmt: skip
def test_kernels_that_cannot_be_compiled_say_what_to_install(error: Exception, said: str) -> None:
    device = CUDA(0, StandInCupy())
    failing(device.xp, "RawModule", error)
    with pytest.raises(DeviceError, match=said):
        ops.tanh(tensor([1.0], device=device))


def test_kernels_are_compiled_once_from_a_text_with_its_headers_in_it() -> None:
    asked, device = [], CUDA(0, StandInCupy())

    class Module:
        def __init__(self, **how: Any) -> None:
            asked.append(how)

        def get_function(self, name: str) -> Any:
            return lambda grid, block, args: None

    device.xp.RawModule = Module
    for _ in range(3):
        ops.tanh(tensor([1.0], device=device))
    (how,) = asked
    assert how["name_expressions"] == ("gpunet::activation<gpunet::act::tanh, float>",)
    assert "struct tanh" in how["code"] and "exp_series" in how["code"] and "#include" not in how["code"]
    assert how["code"].count("struct Control") == how["code"].count("template <class T> HD T poly(T,") == 1


# ---------------------------------------------------------------- kernels


def test_every_native_kernel_is_there(native_device: CPU) -> None:
    assert set(native_device.kernels) == set(KERNELS)
    assert CPU(native=False).kernels == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_native_kernels_take_arrays_of_any_layout(native_device: CPU, numpy_device: CPU, dtype: Any) -> None:
    """Transposed, reversed, strided and broadcast arrays: a kernel copes or declines, and never reads beside them."""
    base = np.random.default_rng(0).normal(size=(6, 8, 8)).astype(dtype)
    layouts = {
        "transposed": base[0].T, "reversed": base[0, ::-1], "backwards": base[0, :, ::-1],
        "strided": base[0, ::2, 1::2],
        "columns": base[:, 0, :4], "broadcast": np.broadcast_to(base[0, 0], (8, 8)), "row": base[0, :1],
        "column": base[0, :, :1],
        "stack": base.transpose(0, 2, 1), "inner": base.transpose(2, 1, 0), "empty": base[:0, 0],
    }  # fmt: skip
    room = {"rtol": 3e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for name, array in layouts.items():
        got, want = [run_all(Tensor(array, device)) for device in (native_device, numpy_device)]
        for op in want:
            np.testing.assert_allclose(got[op], want[op], **room, err_msg=f"{op} of {name}")


def run_all(x: Tensor) -> dict[str, Any]:
    square = ops.matmul(x, ops.swap_last(x))
    targets = tensor(np.zeros(x.shape[0], np.int64), device=x.device)
    made = {
        "matmul": square, "tanh": ops.tanh(x), "gelu": ops.gelu(x), "erf": ops.erf(x), "softmax": ops.softmax(x),
        "log_softmax": ops.log_softmax(x),
        "gather": ops.gather(x, targets), "activation_vjp": ops.activation_vjp(x, x, act="tanh", alpha=0.0),
    }  # fmt: skip
    if x.ndim == 2:
        made["linear"] = ops.linear(x, ops.swap_last(x), x[:, 0], act="relu")
        made["cross_entropy"] = ops.softmax_cross_entropy(x, targets)
        made["scatter_add"] = ops.scatter_add(x, targets, n=2)
    return {name: t.numpy() for name, t in made.items()}


def test_native_kernels_do_not_write_their_inputs(native_device: CPU) -> None:
    x = np.random.default_rng(0).normal(size=(9, 9))
    before = x.copy()
    run_all(Tensor(x, native_device))
    assert (x == before).all()


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "amx"])
def test_every_instruction_set_agrees(native_device: CPU, numpy_device: CPU, isa: str) -> None:
    native = native_device.native
    if isa not in native.isas():
        pytest.skip(f"this machine has {', '.join(native.isas())}, not {isa}")
    x, usual = np.random.default_rng(0).normal(size=(33, 33)), native.isa()
    native.set_isa(isa)
    try:
        assert native.isa() == isa
        results = [run_all(Tensor(x, device)) for device in (native_device, numpy_device)]
    finally:
        native.set_isa(usual)
    for op in results[0]:
        np.testing.assert_allclose(results[0][op], results[1][op], rtol=1e-12, atol=1e-12, err_msg=op)


def test_the_bits_do_not_depend_on_the_threads(native_device: CPU) -> None:
    x, usual = np.random.default_rng(0).normal(size=(257, 257)).astype(np.float32), native_device.native.threads()
    found = []
    try:
        for threads in (1, 2, 3, 7):
            native_device.native.set_threads(threads)
            found.append({name: a.tobytes() for name, a in run_all(Tensor(x, native_device)).items()})
    finally:
        native_device.native.set_threads(usual)
    assert all(f == found[0] for f in found)


# ---------------------------------------------------------------- the CUDA class, on the stand-in


def test_the_cuda_class_works_within_its_device(standin: CUDA) -> None:
    assert standin.memory() == (3 << 30, 4 << 30)
    assert standin.description == "cuda:1 (Stand-in 1, 4 GiB)"
    standin.synchronize()
    assert standin._device.synchronized == 1 and standin._device.entered == 0


def test_the_stand_in_refuses_host_arrays(standin: CUDA) -> None:
    """As CuPy does; otherwise the tests on it would prove little."""
    x, host = standin.upload(np.ones(3)), np.ones(3)
    for mix in (
        lambda: x + host,
        lambda: host * x,
        lambda: standin.xp.add(x, host),
        lambda: standin.xp.where(x > 0, x, host),
        lambda: x.__setitem__(..., host),
        lambda: standin.xp.concatenate([x, host]),
    ):
        with pytest.raises(TypeError, match="Unsupported type"):
            mix()


def test_a_small_net_trains_on_the_stand_in_as_on_the_cpu(standin: CUDA) -> None:
    def train(device: Device) -> list[float]:
        random = np.random.default_rng(0)
        x, t = tensor(random.normal(size=(16, 4)), device=device), tensor(random.integers(0, 3, 16), device=device)
        w, b = (tensor(random.normal(size=s), device=device, requires_grad=True) for s in ((4, 3), (3,)))
        losses = []
        for _ in range(5):
            loss = ops.softmax_cross_entropy(ops.linear(x, w, b), t).mean()
            w.grad = b.grad = None
            loss.backward()
            for p in (w, b):
                p.assign((p - 0.5 * p.grad).detach())
            losses.append(loss.item())
        return losses

    losses = train(standin)
    assert losses == pytest.approx(train(CPU(native=False)), rel=1e-12)
    assert losses[-1] < losses[0]
