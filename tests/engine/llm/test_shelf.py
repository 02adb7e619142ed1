from __future__ import annotations

import threading
from pathlib import Path

import pytest

from plait.dag.errors import EngineError, ModelError
from plait.engine.llm.shelf import Shelf


class Fake:
    def __init__(self, path: Path, load_seconds: float = 1.0) -> None:
        self.path = path
        self.closed = False
        self.memory_bytes = 40
        self.load_seconds = load_seconds

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shelf(limit: int | None = 100, **seconds: float) -> tuple[Shelf[Fake], Clock]:
    clock = Clock()
    paths = {alias: Path(f"/models/{alias}") for alias in ("a", "b", "c")}

    def build(path: Path) -> Fake:
        return Fake(path, seconds.get(path.name, 1.0))

    paths["also a"] = Path("/models/../models/a")
    return Shelf(paths, build, limit, lambda path: 40, clock), clock


def test_aliases_of_one_path_share_an_engine() -> None:
    models, _ = shelf()
    with models.borrow("a") as one, models.borrow("also a") as other:
        assert one is other
    assert models.costs()["a"].loads == 1


def test_the_least_valuable_idle_model_goes() -> None:
    models, clock = shelf(a=50.0, b=1.0)
    with models.borrow("a") as a:
        pass
    with models.borrow("b") as b:
        pass
    clock.now += 10
    with models.borrow("c"):
        assert b.closed and not a.closed, "b was used later, but is far cheaper to load again"
    assert models.costs()["b"].unloads == 1


def test_a_model_in_use_is_never_unloaded() -> None:
    models, _ = shelf()
    a, b = models.take("a"), models.take("b")
    got: list[Fake] = []
    thread = threading.Thread(target=lambda: got.append(models.take("c")))
    thread.start()
    thread.join(0.05)
    assert not got and not a.closed and not b.closed
    models.give("b")
    thread.join(5)
    assert got and b.closed and not a.closed


def test_a_model_beyond_the_limit_is_refused() -> None:
    models, _ = shelf(limit=30)
    with pytest.raises(ModelError, match="limit"):
        models.take("a")
    with pytest.raises(ModelError, match="alias"):
        models.take("z")


class Larger(Fake):
    """Needs more than was estimated."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        self.memory_bytes = size


def test_a_model_that_turns_out_to_be_beyond_the_limit_is_refused_to_all_who_wait() -> None:
    began, go = threading.Event(), threading.Event()
    built: list[Larger] = []
    errors: list[ModelError] = []

    def build(path: Path) -> Larger:
        began.set()
        go.wait(5)
        built.append(Larger(path, 101))
        return built[-1]

    models = Shelf({"a": Path("/models/a")}, build, 100, lambda path: 40)

    def ask() -> None:
        try:
            models.take("a")
        except ModelError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    began.wait(5)
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 3, "nobody gets it, and nobody waits for ever"
    assert [model.closed for model in built] == [True]


def test_idle_models_go_when_one_needs_more_than_was_estimated() -> None:
    sizes = {"a": 40, "b": 80}
    paths = {name: Path(f"/models/{name}") for name in sizes}
    models = Shelf(paths, lambda path: Larger(path, sizes[path.name]), 100, lambda path: 40)
    with models.borrow("a") as a:
        pass
    with models.borrow("b") as b:
        assert a.closed and not b.closed


def test_who_needs_more_than_was_estimated_waits_for_those_in_use() -> None:
    sizes = {"a": 40, "b": 80}
    paths = {name: Path(f"/models/{name}") for name in sizes}
    built: list[Larger] = []

    def build(path: Path) -> Larger:
        built.append(Larger(path, sizes[path.name]))
        return built[-1]

    models = Shelf(paths, build, 100, lambda path: 40)
    models.take("a")
    got: list[Larger] = []
    thread = threading.Thread(target=lambda: got.append(models.take("b")), daemon=True)
    thread.start()
    thread.join(0.1)
    assert not got and [model.closed for model in built] == [False, True], "120 bytes of 100"
    models.give("a")
    thread.join(5)
    assert [model.closed for model in built] == [True, True, False] and got == built[2:]
    assert models.sizes() == sizes


def test_an_engine_that_broke_is_not_lent_again() -> None:
    models, _ = shelf()
    broken = models.take("a")
    broken.closed = True
    assert not models.loaded and models.take_loaded("a") is None
    again = models.take("a")
    assert again is not broken and not again.closed and models.loaded["a"] is again
    models.give("a")
    models.give("a")
    assert models.costs()["a"].loads == 2


def test_what_loading_and_unloading_took() -> None:
    clock = Clock()

    class Slow(Fake):
        def close(self) -> None:
            clock.now += 2.0
            super().close()

    def build(path: Path) -> Slow:
        clock.now += 60.0  # costs are measured, too
        return Slow(path, 3.0)

    models = Shelf({"a": Path("/models/a")}, build, clock=clock)
    for price in (3.0, 5.0):  # a switch takes both, once both have been seen
        with models.borrow("a"):
            pass
        assert models.seconds() == {"a": price}
        assert models.unload("a")
    costs = models.costs()["a"]
    assert (costs.loads, costs.load_seconds) == (2, 3.0)
    assert (costs.unloads, costs.unload_seconds) == (2, 2.0)


def test_closing_while_a_model_loads() -> None:
    began, go = threading.Event(), threading.Event()
    built: list[Fake] = []
    errors: list[EngineError] = []

    def build(path: Path) -> Fake:
        began.set()
        go.wait(5)
        built.append(Fake(path))
        return built[-1]

    models = Shelf({"a": Path("/models/a")}, build)

    def ask() -> None:
        try:
            models.take("a")
        except EngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    began.wait(5)
    models.close()
    go.set()
    for thread in threads:
        thread.join(5)
    assert len(errors) == 2
    assert [model.closed for model in built] == [True]


def test_closing_unloads_all() -> None:
    models, _ = shelf(limit=None)
    with models.borrow("a") as a, models.borrow("b") as b:
        models.close()
    assert a.closed and b.closed
    with pytest.raises(EngineError):
        models.take("a")
