"""A network's weights found in files of all kinds: under any names, with anything beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from stages.model import catalogue
from stages.model.weights_in_file import Found, find_if_there, find_weights, tensors_in, wanted
from stages.program.errors import InputError
from tests.tiny_network import tiny  # noqa: F401

State = dict[str, torch.Tensor]
FAMILIES = ("resnet18", "mobilenet_v3_small")
HEADS = {"resnet18": "fc", "mobilenet_v3_small": "classifier.3"}


@cache
def network(name: str) -> nn.Module:
    """With all its layers, and of each the first few channels alone."""
    torch.manual_seed(3)
    built = catalogue.build(name, 4)
    for tensor in (*built.parameters(), *built.buffers()):
        tensor.data = tensor.data[tuple(slice(6) for _ in tensor.shape)].clone()
    return built


def below_head(name: str) -> State:
    return {key: value for key, value in network(name).state_dict().items() if not key.startswith(HEADS[name])}


def find(content: object, name: str) -> Found:
    return find_weights(tensors_in(content), wanted(network(name), name), "the file")


def under(prefix: str, state: Mapping[str, torch.Tensor]) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def other(state: Mapping[str, torch.Tensor]) -> State:
    return {key: tensor + 1 for key, tensor in state.items()}


def old(state: Mapping[str, torch.Tensor]) -> State:
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def sequential(state: Mapping[str, torch.Tensor], head: str) -> State:
    """As `nn.Sequential(*network.children())`, without the head, names its tensors."""
    name = next(name for name in FAMILIES if HEADS[name] == head)
    children = nn.Sequential(*network(name).children()).state_dict()
    kept = [tensor for key, tensor in children.items() if not key.startswith(("9.", "2.3."))]
    assert all(map(torch.equal, kept, state.values()))
    return dict(zip((key for key in children if not key.startswith(("9.", "2.3."))), kept, strict=True))


def changed(state: Mapping[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor]) -> State:
    return {key: change(tensor) if tensor.is_floating_point() else tensor for key, tensor in state.items()}


ONES = {"weight": torch.ones(3, 2)}  # of another part
SHAPES: dict[str, Callable[[State, str], Any]] = {  # of files that hold `state`, without a head, for the head's name
    "no head": lambda state, head: state,
    "a head for other classes": lambda state, head: state | under(f"{head}.", ONES),
    "a head of two layers": lambda state, head: state | under(f"{head}.0.", ONES) | under(f"{head}.2.", ONES),
    "two heads": lambda state, head: state | under(f"{head}.species.", ONES) | under(f"{head}.sex.", ONES),
    "a damaged head": lambda state, head: state | {f"{head}.bias": torch.full((4,), torch.nan)},
    "no counters": lambda state, head: old(state),
    "an old checkpoint of several GPUs": lambda state, head: {"state_dict": under("module.", old(state)), "epoch": 90},
    "Lightning": lambda state, head: {
        "epoch": 3, "state_dict": under("model.", state), "hyper_parameters": {"lr": 0.1, "head": head}, "loops": {},
    },
    "compiled, on several GPUs": lambda state, head: {"model_state": under("module._orig_mod.", state)},
    "compiled parts": lambda state, head: under("_orig_mod.backbone.", state) | under("_orig_mod.neck.", ONES),
    "three prefixes": lambda state, head: {"net": {"params": under("module.model.backbone.", state)}},
    "a prefix of its own": lambda state, head: under("my_net.", state) | {"queue": torch.ones(3), "at": torch.ones(1)},
    "a dictionary for each part": lambda state, head: {"encoder": state, "decoder": ONES},
    "MoCo": lambda state, head: {
        "state_dict": under("module.encoder_k.", other(state)) | under("module.encoder_q.", state),
    },
    "BYOL": lambda state, head: (
        under("target_encoder.", other(state)) | under("online_encoder.", state) | under("predictor.", ONES)
    ),
    "an average of each epoch": lambda state, head: {"model": state, "model_ema": other(state)},
    "nothing but an average": lambda state, head: {"state_dict_ema": state, "optimizer": {"state": {0: ONES}}},
    "twice the same": lambda state, head: {"best": dict(state), "last": changed(state, torch.clone)},
    "another network's teacher": lambda state, head: {"student": state, "teacher": {"conv1.weight": torch.ones(2)}},
    "in half precision": lambda state, head: changed(state, torch.Tensor.half),
    "parameters": lambda state, head: changed(state, nn.Parameter),
    "a tensor under two names": lambda state, head: state | {"again": next(iter(state.values()))},
    "without names": sequential,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_accepted(shape: str, name: str) -> None:
    state = below_head(name)
    found = find(SHAPES[shape](state, HEADS[name]), name).state
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        expected = tensor.half().float() if shape == "in half precision" and tensor.is_floating_point() else tensor
        assert torch.equal(found[key], expected)
        assert found[key].dtype == tensor.dtype
        assert not found[key].requires_grad


KEYS = {"resnet18": "layer1.0.bn2.weight", "mobilenet_v3_small": "features.2.block.1.1.weight"}
REFUSED: dict[str, tuple[Callable[[State, str], Any], str]] = {  # of a state and one of its keys
    "student and teacher": (
        lambda state, key: {"student": under("module.", state), "teacher": under("module.", other(state))},
        "the file holds more than one {name}: student.module and teacher.module; save the state dict of the one",
    ),
    "two averages": (
        lambda state, key: {"ema": state, "swa": other(state)},
        "holds more than one {name}: ema and swa; save",
    ),
    "a tensor of another shape": (
        lambda state, key: {"model": state | {key: torch.ones(3, 3)}},
        "model.{key} has shape (3, 3), not (",
    ),
    "a name that differs": (
        lambda state, key: {f"module.{name}{'_orig' * (name == key)}": value for name, value in state.items()},
        "it lacks module.{key}; the nearest is module.{key}_orig; set backbone.name to what it is",
    ),
    "one tensor more in a block": (
        lambda state, key: state | {key.replace("weight", "lora_A"): torch.ones(2)},
        "lora_A is none of its tensors",
    ),
    "infinity": (
        lambda state, key: under("net.", state | {key: torch.full_like(state[key], torch.inf)}),
        "the file is damaged: net.{key} holds NaN or infinity",
    ),
    "a counter of another shape": (
        lambda state, key: state | {key.replace("weight", "num_batches_tracked"): torch.ones(2)},
        "has shape (2,), not ()",
    ),
    "blocks": (
        lambda state, key: {f"blocks.{n}.attention.conv1.weight": torch.ones(3, 3) for n in range(4)},
        "it lacks {first} (and ",
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, name: str) -> None:
    state = below_head(name)
    change, sentence = REFUSED[kind]
    with pytest.raises(InputError) as caught:
        find(change(state, KEYS[name]), name)
    assert sentence.format(name=name, key=KEYS[name], first=next(iter(state))) in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_beside() -> None:
    state = below_head("resnet18")
    content: dict[str, Any] = {
        "state_dict": under("model.", state | under("fc.", ONES)) | under("loss.", ONES | under("a.", ONES)),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}, 1: {"exp_avg": torch.ones(2)}}},
        "rng": torch.zeros(5, dtype=torch.uint8),
    }  # fmt: skip
    found = find(content, "resnet18")
    assert found.prefix == "state_dict.model."
    assert found.beside == {"state_dict.loss": 2, "optimizer": 2, "rng": 1}
    assert find(state | {"fc.weight": torch.ones(2)}, "resnet18").beside == {}


@pytest.mark.parametrize(
    ("shape", "prefix"),
    [
        ("no head", ""),
        ("three prefixes", "net.params.module.model.backbone."),
        ("MoCo", "state_dict.module.encoder_q."),
        ("BYOL", "online_encoder."),
        ("an average of each epoch", "model."),
        ("nothing but an average", "state_dict_ema."),
        ("twice the same", "best."),
    ],
)
def test_where_the_weights_lie(shape: str, prefix: str) -> None:
    assert find(SHAPES[shape](below_head("resnet18"), "fc"), "resnet18").prefix == prefix


def test_of_equal_ones_the_one_that_was_trained_is_named() -> None:
    state = below_head("resnet18")
    assert find({"ema": state, "model": changed(state, torch.clone)}, "resnet18").prefix == "model."
    several = {"ema": other(state), "swa": state, "one": state | {}, "two": changed(state, torch.clone)}
    assert find(several, "resnet18").prefix == "one."
    assert find({"one": changed(state, torch.Tensor.int), "two": state}, "resnet18").prefix == "two."


def parts_of(state: State, share: float) -> State:
    """Return the first of the tensors, but for batch norm's counters so many of all."""
    counted = [key for key in state if not key.endswith("num_batches_tracked")]
    return {key: state[key] for key in counted[: round(share * len(counted))]}


def test_what_is_said_is_of_the_part_that_is_most_like_it() -> None:
    state = below_head("resnet18")

    def refusal(content: object) -> str:
        with pytest.raises(InputError) as caught:
            find(content, "resnet18")
        return str(caught.value).removeprefix("the file is not a resnet18: ").partition("; ")[0]

    counted = [*parts_of(state, 1)]
    n = len(counted)
    most = {"a": parts_of(state, 0.6), "b": parts_of(state, 0.9), "c": parts_of(state, 0.7)}
    first = round(0.9 * n)
    assert refusal(most) == f"it lacks b.{counted[first]} (and {n - first - 1} more)"
    assert refusal({"a": parts_of(state, 0.4)}) == f"it lacks {counted[0]} (and {n - 1} more)"
    half = round(0.5 * n)
    assert 2 * half == n
    assert refusal({"a": parts_of(state, 0.5)}) == f"it lacks a.{counted[half]} (and {half - 1} more)"
    equal = {"longer": parts_of(state, 0.8), "short": parts_of(state, 0.8)}
    assert refusal(equal).startswith("it lacks short.")
    assert refusal({"m": {key: state[key] for key in state if key != counted[7]}}) == f"it lacks m.{counted[7]}"
    assert refusal({"m": state | {"layer1.0.a": ONES["weight"], "layer2.5.b": ONES["weight"]}}) == (
        "m.layer1.0.a (and 1 more) is none of its tensors"
    )
    assert refusal({"m": state | {"conv1.lora": ONES["weight"]}}) == "m.conv1.lora is none of its tensors"
    unlike = {"m": {f"{number:x}": torch.ones(1) for number in range(20)}}
    with pytest.raises(
        InputError, match=r"it lacks conv1.weight \(and 99 more\); it begins with m.0; set backbone.name"
    ):
        find(unlike, "resnet18")


@pytest.mark.parametrize(
    ("counter", "problem"),
    [
        (torch.tensor(7, dtype=torch.int32), None),
        (torch.tensor(7.0, dtype=torch.float16), None),
        (torch.tensor(7j), "layer1.0.bn2.num_batches_tracked is complex64, where floating-point numbers of 16 bits or"),
        (torch.ones((), device="meta"), "layer1.0.bn2.num_batches_tracked is no dense tensor"),
    ],
)
def test_kinds_of_counters(counter: torch.Tensor, problem: str | None) -> None:
    content = {"model": below_head("resnet18") | {"layer1.0.bn2.num_batches_tracked": counter}}
    if problem is None:
        assert find(content, "resnet18").state["layer1.0.bn2.num_batches_tracked"] == 7
        return
    with pytest.raises(InputError) as caught:
        find(content, "resnet18")
    assert str(caught.value).startswith(f"the file cannot be used: model.{problem}")
    assert str(caught.value).endswith("; save model.state_dict() in float32")


def test_a_network_is_looked_for_before_it_is_asked_for() -> None:
    state, needed = below_head("resnet18"), wanted(network("resnet18"), "resnet18")
    there = find_if_there(tensors_in({"model": state}), needed, "the file")
    assert there is not None
    assert there.prefix == "model."
    larger = state | {"conv1.weight": torch.ones(6, 3, 9, 9)}
    for others in (larger, parts_of(state, 0.9), {}):
        assert find_if_there(tensors_in({"model": others}), needed, "the file") is None
    both = tensors_in({"large": larger, "usual": state})
    found = find_if_there(both, needed, "the file")
    assert found is not None
    assert found.prefix == "usual."


def test_what_follows_from_the_sizes_is_not_asked_of_a_file(tiny: str) -> None:  # noqa: F811
    built = catalogue.build(tiny, 2)
    built.get_submodule("layer1").register_buffer("attn_mask", torch.full((2, 2), 5.0))
    needed = wanted(built, tiny)
    state = {key: tensor for key, tensor in built.state_dict().items() if not key.startswith("head.")}
    assert sorted(needed.stored) == sorted(state)
    assert [*needed.computed] == ["layer1.attn_mask"]
    of_another_size = under("net.", state | {"layer1.attn_mask": torch.zeros(3, 3)})
    for content in (of_another_size, {key: tensor for key, tensor in state.items() if "mask" not in key}):
        found = find_weights(content, needed, "the file")
        assert torch.equal(found.state["layer1.attn_mask"], state["layer1.attn_mask"])
        assert found.state.keys() == state.keys()
        assert found.beside == {}


def test_batches_are_counted_from_nought_where_they_were_not_counted() -> None:
    state = below_head("resnet18")
    some = {key: value for key, value in state.items() if key != "layer1.0.bn1.num_batches_tracked"}
    some["bn1.num_batches_tracked"] = torch.tensor(7)
    found = find(some, "resnet18").state
    assert found["layer1.0.bn1.num_batches_tracked"] == 0
    assert found["bn1.num_batches_tracked"] == 7


def test_a_dictionary_in_itself() -> None:
    content: dict[str, Any] = {"a": {"b": torch.ones(1)}}
    content["a"]["again"] = content
    assert [*tensors_in(content)] == ["a.b"]
    for _ in range(100):
        content = {"in": content, "too": content}
    assert tensors_in(content) == {}


def test_names_are_the_keys_that_lead_to_a_tensor() -> None:
    a, b, c, d = (torch.tensor(number) for number in range(4))
    content = {
        "first": {3: a, "in": {"": b}, ("no", "name"): c, None: {"x": c}},
        "text": "no tensor",
        "list": [c],
        "last": d,
        "first.3": c,
    }
    found = tensors_in(content)
    assert [*found] == ["first.3", "first.in.", "last"], "in the order of the file"
    assert found["first.3"] is a
    assert found["last"] is d
    shared = {"x": a}
    assert [*tensors_in({"one": shared, "two": shared})] == ["one.x"]
    deep: Any = {"x": a}
    for depth in range(2, 10):
        assert [*tensors_in(deep)] == ["k." * (depth - 2) + "x"]
        deep = {"k": deep}
    assert tensors_in(deep) == {}, "of more than eight"


def test_the_published_names_of_the_offline_network() -> None:
    pytest.importorskip("timm", reason="the extra `offline` is not installed")
    name = "efficientnet_lite0"
    small = catalogue.build(name, 4)
    names = catalogue.family_of(name).names_in_files(small)
    state = small.state_dict()
    published = under("module.", {names[key]: tensor for key, tensor in state.items()})
    for content in (published, under("backbone.", state)):
        found = find_weights(content, wanted(small, name), "the file")
        assert found.beside == {}
        assert all(torch.equal(tensor, state[key]) for key, tensor in found.state.items())
    published["module._blocks.3._bn1.gamma"] = published.pop("module._blocks.3._bn1.weight")
    with pytest.raises(
        InputError,
        match=r"an efficientnet_lite0: it lacks module\._blocks\.3\._bn1\.weight; .*module\._blocks\.3\._bn1\.gamma",
    ):
        find_weights(published, wanted(small, name), "the file")
