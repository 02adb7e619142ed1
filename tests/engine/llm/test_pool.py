"""Pages on the move between the device and the host tier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from plait.engine.llm.pool import KVShape, Pool

PAGE = 4


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def pool() -> Pool:
    """Whose every number on the device is another one."""
    shapes = [KVShape(2, 3, 5), KVShape(1, 2, 2)]
    found = Pool(shapes, 12, PAGE, torch.device("cpu"), torch.float32, host_pages=10)
    for number, tensor in enumerate(found._tensors()):
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) + 1000 * number)
    return found


@pytest.mark.parametrize(
    ("device", "host", "runs"),
    [
        ([3, 4, 5], [0, 1, 2], 1),
        ([3, 4, 5, 9, 1], [6, 7, 2, 3, 4], 4),
        ([5, 4, 3], [0, 1, 2], 3),
        ([0, 1, 2, 3], [4, 5, 0, 1], 2),
        ([7], [9], 1),
        ([], [], 0),
    ],
)
def test_pages_come_back_as_they_went_by_runs_and_without_copies_between(
    device: list[int], host: list[int], runs: int
) -> None:
    kv = pool()
    before = [tensor.clone() for tensor in kv._tensors()]
    moved = [page * PAGE + i for page in device for i in range(PAGE)]
    with Seen() as seen:
        kv.offload(device, host)
    assert seen.names.count("copy_") == runs * len(before), "one for each run"
    assert set(seen.names) <= {"copy_", "slice"}, "nothing in between"
    for tensor in kv._tensors():
        tensor[moved] = -1.0
    kv.restore(host, device)
    assert all(torch.equal(a, b) for a, b in zip(kv._tensors(), before, strict=True))
