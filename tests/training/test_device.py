"""Precision is what the device has, never what it pretends."""

from typing import Any

import pytest
import torch

from hg3.training.device import autocast, default_device, device_model, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({}, "float32"),
        ({"avx2": True, "avx512_f": True, "avx512_fp16": True}, "float32"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"bf16": True}, "bfloat16"),
    ],
)
def test_a_cpu_computes_in_what_it_has(has: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(("in_hardware", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_a_gpu_that_emulates_bfloat16_takes_float16(
    in_hardware: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return in_hardware or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert resolve_precision("auto", GPU) == expected


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_a_precision_asked_for_is_taken(wanted: str) -> None:
    assert resolve_precision(wanted, CPU) == wanted == resolve_precision(wanted, GPU)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_networks_compute_in_it(precision: str) -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(precision, CPU):
        assert layer(torch.zeros(1, 2)).dtype == getattr(torch, precision)
    assert layer(torch.zeros(1, 2)).dtype == torch.float32


def test_the_default_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert default_device().type == expected


def test_a_device_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_model(CPU)
    unknown: dict[str, Any] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: unknown)
    assert device_model(CPU)


def test_cpus_of_one_name_and_other_kernels_are_other_models(monkeypatch: pytest.MonkeyPatch) -> None:
    has = dict(torch.cpu.get_capabilities())
    models = {device_model(CPU)}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**has, "avx512_f": not has.get("avx512_f")})
    models.add(device_model(CPU))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    models.add(device_model(CPU))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    models.add(device_model(CPU))
    assert len(models) == 4
    cores = {**has, "num_physical_cores": 99}
    monkeypatch.undo()
    before = device_model(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cores)
    assert device_model(CPU) == before  # how many cores there are changes no byte
