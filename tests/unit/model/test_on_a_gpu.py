"""What would go to a GPU, and what would come back: on one that does not compute."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages import evaluate, explain
from stages.files import predictions
from stages.files.card import Card
from stages.files.picture_list import as_contents
from stages.files.stored_split import StoredSplit
from stages.model import chain, encoding
from stages.model.cut import head_depths, stored_layer
from stages.model.devices import choose_device
from stages.model.ranks import Ranks, join_process_group
from stages.pictures import views
from stages.program.errors import InputError
from stages.program.params import Augment, GradientDescent, Params, load_params
from stages.training.batch_step import BatchStep
from stages.training.gradient_descent import train
from tests.fake_gpu import HERE, Event, Runtime, Stream, Traffic, entered, fake_gpu, really, take
from tests.project import ROOT, SOAK, takes_long
from tests.small_run import ONCE, prepare, run
from tests.tiny_network import NAME, tiny  # noqa: F401
from tools.predict import Prediction, predict

NETWORK, LAYER = ("mobilenet_v3_small", "layer8") if SOAK else (NAME, "layer1")
AUGMENT = Augment(min_scale=0.5, flip=0.5, rotation=10)
CONTENTS = as_contents(f"{number:064x}" for number in range(256))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tiny: str) -> Any:  # noqa: F811
    levels = views._levels
    levels.cache_clear()
    monkeypatch.setattr(chain, "restore", really(chain.restore))
    monkeypatch.setattr(chain, "restore_backbone", really(chain.restore_backbone))
    yield
    levels.cache_clear()


@pytest.fixture
def card(drawn_images: Path) -> Card:
    prepared = prepare("linear", {}, NETWORK)
    return replace(prepared, classes=("dots", "lines", "more"), precision="bfloat16")


def params(**changes: object) -> Params:
    return load_params(ROOT / "params.yaml").model_copy(update={"device": "cuda", **changes})


def encode(card: Card, precision: str, kind: str, index: int) -> tuple[list[Any], Traffic]:
    """Send two batches through an encoder, as a thread does, and return what the second one came to."""
    with fake_gpu(index) as traffic:
        given = params(precision=precision)
        if kind == "pooled":
            encoder = encoding.pooled_encoder(given, card, card.depths, AUGMENT, 0)
        else:
            encoder = encoding.map_encoder(given, card, LAYER, AUGMENT)
        squares = np.zeros((encoder.batch, 72, 72, 3), np.uint8)
        take(0)  # as the current device of a new thread is
        encoder.encode(squares, CONTENTS, (0, 1, 2))
        traffic.__init__()  # type: ignore[misc]
        finish = encoder.start(squares, CONTENTS, (0, 1, 2))
        assert not traffic.received, "the host waits for results before it has told the device what to do next"
        assert not traffic.in_flight(torch.uint8), "a decoder may write where the device still reads"
        return finish(), traffic


def test_memory_of_squares_is_pinned_for_the_gpu(card: Card) -> None:
    with fake_gpu(1):
        for encoder in (
            encoding.pooled_encoder(params(), card, card.depths, AUGMENT, 0),
            encoding.map_encoder(params(), card, LAYER, AUGMENT),
        ):
            assert getattr(encoder.pinned, "keywords", None) == {"device": torch.device("cuda", 1)}


@pytest.mark.parametrize(
    ("index", "precision"),
    [
        (0, "float32"),
        (1, "bfloat16"),
        pytest.param(1, "float32", marks=takes_long),
        pytest.param(0, "bfloat16", marks=takes_long),
    ],
)
@pytest.mark.parametrize("kind", ["pooled", "maps"])
def test_features_stay_on_their_gpu_and_wait_for_nothing_but_the_results(
    card: Card, precision: str, kind: str, index: int
) -> None:
    arrays, traffic = encode(card, precision, kind, index)
    assert all(array.shape[:2] == (256, 3) for array in arrays)
    assert {device for device in traffic.devices if device != "cpu"} == {f"cuda:{index}"}
    assert not traffic.mixed
    assert not traffic.doubles
    assert not traffic.sent, "the host would wait for copies from memory that is not pinned"
    assert not traffic.races
    assert not traffic.strays, "memory would be taken on the first GPU by each process of a launch"
    assert traffic.waits == 2, "for the copy there, and for the results"


def test_predictions_are_made_doubles_on_the_host(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    model = Path("data/model")
    model.mkdir(parents=True)
    head = {f"{card.head}.weight": torch.zeros(3, _width(card)), f"{card.head}.bias": torch.zeros(3)}
    from safetensors.torch import load_file

    save_file(load_file("data/weights/weights.safetensors") | head, model / "model.safetensors")
    replace(card, depths=()).write(model)
    monkeypatch.setattr("tools.predict.restore", chain.restore)
    paths = sorted(Path("data/images/val/dots").iterdir())
    with fake_gpu() as traffic:
        found = [*predict(paths, model, "cuda:1")]
    assert len(found) == len(paths)
    assert all(isinstance(one, Prediction) for one in found)
    assert {device for device in traffic.devices if device != "cpu"} == {"cuda:1"}
    assert not traffic.mixed
    assert not traffic.doubles


def _width(card: Card) -> int:
    network = chain.build_with_head(replace(card, depths=()), 1)
    return int(network.get_submodule(card.head).weight.shape[1])  # type: ignore[index]


@pytest.mark.parametrize(
    "plant",
    [
        lambda: ("stages.model.streams.send", lambda array, _: torch.from_numpy(array)),  # never sent
        lambda: (
            "stages.model.devices.choose_device",
            lambda _: torch.device("cuda"),
        ),  # which is the first, in threads
    ],
    ids=["not sent", "no number"],
)
def test_faults_are_noticed(card: Card, monkeypatch: pytest.MonkeyPatch, plant: Callable[[], tuple[str, Any]]) -> None:
    monkeypatch.setattr(*plant())
    noticed = False
    try:
        _, traffic = encode(card, "float32", "pooled", 1)
        noticed = bool(traffic.mixed) or "cuda:1" not in traffic.devices
    except RuntimeError as error:
        noticed = "device" in str(error)
    assert noticed


def test_a_thread_that_does_not_name_its_device_is_noticed(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.model.streams.using", lambda _, stream: entered(stream))
    _, traffic = encode(card, "float32", "pooled", 1)
    assert traffic.strays == 2


def test_waiting_is_noticed(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_levels", views._levels.__wrapped__)  # copied anew in every batch
    _, traffic = encode(card, "float32", "pooled", 0)
    assert traffic.sent.total() == 2 * 3, "mean and std, for each of three views"
    monkeypatch.setattr("stages.model.streams.send", lambda array, device: torch.from_numpy(array).to(device))
    _, traffic = encode(card, "float32", "pooled", 0)
    assert traffic.sent.total() == 2 * 3 + 1, "and the squares"


@pytest.mark.parametrize(
    ("plant", "what"),
    [
        ({"wait_event": lambda *_: None}, "squares that are on their way"),
        ({"wait_stream": lambda *_: None}, "weights that are on their way"),
    ],
)
def test_streams_that_do_not_wait_for_each_other_are_noticed(
    card: Card, monkeypatch: pytest.MonkeyPatch, plant: Mapping[str, Any], what: str
) -> None:
    for name, method in plant.items():
        monkeypatch.setattr(Stream, name, method)
    _, traffic = encode(card, "float32", "pooled", 0)
    assert traffic.races, what


def test_a_host_that_does_not_wait_is_noticed(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Event, "synchronize", lambda _: None)
    with pytest.raises(AssertionError, match="a decoder may write where the device still reads"):
        encode(card, "float32", "pooled", 0)
    monkeypatch.setattr(Traffic, "in_flight", lambda *_: 0)
    _, traffic = encode(card, "float32", "pooled", 0)
    assert traffic.races["numpy"]


def test_which_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.backends.cuda.matmul.allow_tf32 = True
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    with fake_gpu(1):
        assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 1)
        assert HERE.device == 1
        assert choose_device("cuda:0") == torch.device("cuda", 0)
        assert HERE.device == 0, "or the main thread would take memory on another"
        take(1)
        assert choose_device("cpu") == torch.device("cpu")
        assert torch.get_deterministic_debug_mode() == 1
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cudnn.benchmark
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in {":4096:8", ":16:8"}, "those with which cuBLAS is deterministic"
        assert choose_device("cuda:1") == torch.device("cuda", 1)
        with pytest.raises(InputError, match="device is cuda:2, but there are 2 CUDA devices, from cuda:0"):
            choose_device("cuda:2")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        with pytest.raises(InputError, match="device is cuda:0, which the processes of launch would all share"):
            choose_device("cuda:0")


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_one_accelerator_and_not_another(kind: str) -> None:
    with fake_gpu(0, kind):
        assert choose_device("auto") == choose_device(kind) == torch.device(kind, 0)
        assert choose_device("cpu") == torch.device("cpu")
        for other, name in {"cuda": "CUDA device", "mps": r"Apple GPU \(MPS\)", "xpu": r"Intel GPU \(XPU\)"}.items():
            if other != kind:
                with pytest.raises(InputError, match=f"device is {other}, but PyTorch finds no {name} here; use auto"):
                    choose_device(other)


def test_without_any_accelerator() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="device is xpu, but PyTorch finds no Intel GPU"):
        choose_device("xpu")


@pytest.mark.parametrize(
    ("device", "kind", "sentence"),
    [
        ("auto", "cuda", "4 processes on a machine with 2 CUDA devices"),
        ("xpu", "xpu", "4 processes on a machine with 2 XPU devices"),
        ("mps", "mps", "of which a Mac has one: processes cannot share it; set launch to null"),
        ("cpu", "cuda", ""),
    ],
)
def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch, device: str, kind: str, sentence: str) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "3"), ("RANK", "3")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setattr("stages.model.ranks.die_with_parent", lambda: None)
    threads = torch.get_num_threads()
    # On the CPU it gets as far as to the address of the first process, which is not set here.
    expected = sentence or "WORLD_SIZE is set, but not by torchrun"
    with fake_gpu(0, kind), pytest.raises(InputError, match=expected), join_process_group(device):
        pass
    torch.set_num_threads(threads)
    assert os.environ["LOCAL_RANK"] == "3"


@pytest.mark.parametrize(
    ("strategy", "precision"),
    [("partial", "bfloat16"), ("finetune", "float32"), pytest.param("tutorial", "bfloat16", marks=takes_long)],
)
def test_training_stays_on_its_gpu(
    drawn_images: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, precision: str
) -> None:
    block = {**ONCE, "head": "random"} | ({"freeze": LAYER} if strategy == "partial" else {})
    run(strategy, block, NETWORK)
    split, given = StoredSplit(Path("data/inputs/train")), load_params()
    given = given.model_copy(update={"device": "cuda:1", "precision": precision})
    chosen = given.chosen
    assert isinstance(chosen, GradientDescent)
    trained = replace(
        Card.read(Path("data/features")),
        precision=precision,
        cut=stored_layer(chosen),
        depths=head_depths(Card.read(Path("data/features")), chosen),
    )
    in_one_thread(monkeypatch)
    marks: list[int] = []
    step = BatchStep.__call__

    def counted(self: BatchStep, batch: Any) -> torch.Tensor:
        result = step(self, batch)
        marks.append(traffic.sent.total() + traffic.received.total() + traffic.waits)
        return result

    monkeypatch.setattr(BatchStep, "__call__", counted)
    with fake_gpu() as traffic:
        states: list[Any] = []
        checkpoint: Any = SimpleNamespace(read=lambda: states[-1] if states else None, write=states.append)
        for epochs in (1, 2):
            network = chain.restore(trained, 3, Path("data/weights/weights.safetensors"))
            longer = chosen.model_copy(update={"epochs": epochs})
            train(network, split, trained, given, longer, ranks=Ranks(), checkpoint=checkpoint, report=lambda *_: None)
    assert len(states) == 2, "the second time it went on from the first epoch"
    assert len(marks) == 2 * 2
    assert marks[1] == marks[0], "a batch waits for nothing"
    assert marks[3] == marks[2]
    assert not traffic.fused
    assert {device for device in traffic.devices if device != "cpu"} == {"cuda:1"}
    assert not traffic.mixed
    assert not traffic.doubles
    assert not traffic.races


def in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no thread work ahead: the fake GPU sees the operations of the thread in which it was made."""

    def one_by_one(items: Iterator[Any], ahead: int) -> Iterator[Any]:
        yield from items

    monkeypatch.setattr("stages.model.streams.in_background", one_by_one)
    monkeypatch.setattr("stages.model.encoding.in_background", one_by_one)


def test_evaluation_and_its_sheets_stay_on_their_gpu(drawn_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = run("tutorial", {**ONCE, "head": "random"}, NETWORK)
    in_one_thread(monkeypatch)
    split = StoredSplit(Path("data/features/val"))
    rows = [predictions.Prediction(split.names[number], "dots", "lines", 0.5) for number in range(3)]
    with fake_gpu() as traffic:
        logits = np.concatenate([*evaluate.compute_logits(params(device="cuda:1"), card, split, Ranks())])
        assert logits.shape == (15, 3)
        assert traffic.waits == 2, "for one batch"
        assert not traffic.received
        device = choose_device("cuda:1")
        network = chain.restore(card, 3, Path("data/model/model.safetensors")).to(device)
        assert len(explain.explain_predictions(network, card, rows, device)) == 3
    assert {device for device in traffic.devices if device != "cpu"} == {"cuda:1"}
    assert not traffic.mixed
    assert not traffic.doubles
    assert not traffic.races
    assert not traffic.fused
    assert not Runtime.registered, "the ring's memory is given back"
