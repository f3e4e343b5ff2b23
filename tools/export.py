"""Take the model elsewhere: `python -m tools.export --format FORMAT`, one file and a card beside it.

Every format says how to turn a picture into the network's input, as JSON metadata: `preprocessing` (sides in pixels,
mean and standard deviation of RGB in [0, 1]; `levels`, black and white of grey pictures of more than 8 bits, where the
training pictures were such) and `classes`. The exported networks (onnx, pt2) take float32 pictures
(n, 3, crop, crop) that are prepared so, and return float32 probabilities (n, classes), for any n.

`onnx-pictures` prepares the picture itself: it takes one, uint8 RGB (height, width, 3) of any size, and returns float32
probabilities (classes). To decode the file, to turn it upright as its EXIF tags say, and to bring grey levels of more
than 8 bits to 8, is left to the caller.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from stages.files.atomic import replacing
from stages.files.card import Card, Preprocessing
from stages.model.chain import restore, whole_network
from stages.model.devices import Float32
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.errors import InputError
from stages.program.extras import need_packages
from stages.program.interrupts import hold_interrupts
from stages.program.running import run
from tools import model_card
from tools.in_shards import open_picture
from tools.predict import pictures_in
from tools.resizing import PreparedPicture

CHECKED = 8  # pictures at most, to check a file on
TOLERANCE = 1e-4  # largest difference of a probability
LOG_TOLERANCE = 1e-3  # largest difference of its logarithm: 1e-9 instead of 1e-5 is wrong, and differs little
PICTURES = "onnx-pictures"
PICTURES_TOLERANCE = 0.02  # the same where the file resizes: some pixels differ by a grey level
PICTURES_LOG_TOLERANCE = 0.2
SMALLEST = 1e-6  # probability whose logarithm is compared
Metadata = dict[str, str]
State = dict[str, torch.Tensor]
Predict = Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]  # probabilities (n, classes) of n inputs


def main() -> None:
    """Write the model in the requested format, check it, and write its model card."""
    arguments = command_line()
    kind, dash, variant = arguments.format.partition("-")
    target = Path(arguments.output or f"data/export/model{dash}{variant}.{kind}")
    card = target.with_name("model_card.md")
    if target == card:
        raise InputError(f"--output is {target}, where the card of the model goes; give it another name")
    difference, n = export(Path(arguments.model), target, arguments.format, Path(arguments.pictures))
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB; on {n} pictures within {difference:.1g} of the network")
    with replacing(card) as temporary:
        temporary.write_text(
            model_card.text(Path(arguments.model), target, resizes=arguments.format == PICTURES), encoding="utf-8"
        )
    print(card)


def command_line() -> argparse.Namespace:
    """Return the arguments of the command line; `--help` describes them."""
    parser = argparse.ArgumentParser(prog="python -m tools.export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--format", choices=FORMATS, required=True, help="pt2: torch.export's; onnx-pictures: resizes itself"
    )
    parser.add_argument("--model", default="data/model", help="the folder that the stage train wrote (%(default)s)")
    parser.add_argument("--output", help="the file to write (data/export/model.<format>, model-pictures.onnx)")
    parser.add_argument("--pictures", default="data/images/val", help="to check it on, a folder (%(default)s)")
    return parser.parse_args()


def export(model: Path, target: Path, format_name: str, pictures: Path) -> tuple[float, int]:
    """Write the model to `target`, which gets its name only if it predicts what the network predicts.

    Returns:
        The largest difference of a probability, and the number of pictures compared.

    Raises:
        InputError: no model, no pictures, a package is missing, or the file does not predict the same.

    """
    card = Card.read(model)
    write, read = FORMATS[format_name]
    network = restore(card, len(card.classes), model / "model.safetensors")
    tensors = network.state_dict()
    state = {name: tensors[name].contiguous() for name in card.tensors_in_layers(tensors)}
    batch = prepare_batch(pictures, card.preprocessing)
    whole = probabilities(network, card)
    with torch.inference_mode():
        expected = whole(batch).numpy()
    contents = {"preprocessing": card.preprocessing.as_dict(), "classes": card.classes}
    metadata = {key: json.dumps(content, ensure_ascii=False) for key, content in contents.items()}
    metadata |= {"architecture": card.architecture, "input": "RGB pictures, float32 (n, 3, crop, crop), normalised"}
    inputs: list[NDArray[Any]] = [*batch.numpy()]
    example = batch[:2].repeat(2, 1, 1, 1)[:2]
    tolerance, log_tolerance = TOLERANCE, LOG_TOLERANCE
    if format_name == PICTURES:
        inputs = decoded(pictures, lambda file: decoding.upright(file, card.preprocessing))
        example = torch.zeros(card.preprocessing.crop + 2, card.preprocessing.crop + 1, 3, dtype=torch.uint8)
        whole = nn.Sequential(PreparedPicture(card.preprocessing), *whole, nn.Flatten(0)).eval()
        metadata["input"] = "an RGB picture, uint8 (height, width, 3), upright, of any size"
        tolerance, log_tolerance = PICTURES_TOLERANCE, PICTURES_LOG_TOLERANCE
    with replacing(target) as temporary:
        with hold_interrupts(f"{target} is being written"):
            write(whole, state, temporary, example, metadata)
            predict = read(temporary, card)
        largest = 0.0
        for rows in (slice(None), slice(1)):  # the exported network takes any number of pictures
            difference, log_difference = differences(predict(inputs[rows]), expected[rows])
            if not (difference <= tolerance and log_difference <= log_tolerance):
                raise InputError(
                    f"{target} was not kept: its probabilities differ by {difference:.2g} from the network's on "
                    f"{pictures}, and their logarithms by {log_difference:.2g}; try another --format"
                )
            largest = max(largest, difference)
    return largest, len(batch)


def differences(predicted: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest differences of probabilities, and of the logarithms of those above SMALLEST."""
    compared = expected > SMALLEST
    logs = np.log(np.maximum(predicted[compared], SMALLEST / 10)) - np.log(expected[compared])
    return float(np.abs(predicted - expected).max()), float(np.abs(logs).max())


def prepare_batch(pictures: Path, preprocessing: Preprocessing) -> torch.Tensor:
    """Return a few pictures of a folder, spread over all that are in it, as the network's input."""
    squares = decoded(pictures, lambda file: decoding.square(file, preprocessing))
    return evaluation_view(torch.from_numpy(np.stack(squares)), preprocessing)


def decoded(pictures: Path, decode: Callable[[BinaryIO], NDArray[np.uint8]]) -> list[NDArray[Any]]:
    """Decode a few pictures of a folder, files or in shards, that can be read, spread over all that are in it.

    Raises:
        InputError: there are none.

    """
    # A file, or a name in a shard. os.path takes names of any length.
    paths = [path for path in pictures_in(pictures) if os.path.isfile(path) or not os.path.exists(path)]  # noqa: PTH110, PTH113
    found: list[NDArray[Any]] = []
    for path in paths[:: max(1, len(paths) // CHECKED)]:
        with suppress(OSError):
            with open_picture(path) as file:
                usable = decoding.problem(file) is None
            if usable:
                with open_picture(path) as file:
                    found.append(decode(file))
        if len(found) == CHECKED:
            break
    if not found:
        raise InputError(f"there are no pictures in {pictures} to check the file on; name a folder with --pictures")
    return found


def probabilities(network: nn.Module, card: Card) -> nn.Sequential:
    """Return the model's chain of layers with a softmax at its end, in float32 throughout."""
    whole = whole_network(network, card)
    whole.append(nn.Softmax(dim=1))
    for name, module in [*whole.named_modules()]:
        if isinstance(module, Float32):
            whole.set_submodule(name, nn.Sequential(*module))
    return whole.eval().requires_grad_(requires_grad=False)


def write_onnx(whole: nn.Module, state: State, path: Path, example: torch.Tensor, metadata: Metadata) -> None:  # noqa: ARG001
    """Write an ONNX graph with the weights in it: input "pictures" (n, 3, crop, crop), or "picture" where it resizes.

    Its output is "probabilities".
    """
    need_packages("export", "onnx", "onnxscript", "onnxruntime", what="this format")
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    name, axes = ("picture", ("height", "width")) if example.dim() == 3 else ("pictures", ("n",))
    program = torch.onnx.export(
        whole, (example,), dynamo=True, verbose=False, input_names=[name], output_names=["probabilities"],
        dynamic_shapes=({axis: torch.export.Dim(length) for axis, length in enumerate(axes)},),
    )  # fmt: skip
    assert program is not None
    program.save(path, external_data=False)
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, metadata)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def read_onnx(path: Path, card: Card) -> Predict:  # noqa: ARG001
    """Return a function that runs an ONNX graph with ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (graph_input,) = session.get_inputs()

    def run_graph(value: NDArray[Any]) -> NDArray[np.float32]:
        (output,) = session.run(["probabilities"], {graph_input.name: value})
        return np.asarray(output)

    def predict(inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        if graph_input.name == "picture":
            return np.stack([run_graph(picture) for picture in inputs])
        return run_graph(np.stack(inputs))

    return predict


def write_pt2(whole: nn.Module, state: State, path: Path, example: torch.Tensor, metadata: Metadata) -> None:  # noqa: ARG001
    """Write the program of `torch.export`, which `torch.export.load` reads without this project."""
    program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files=dict(metadata))


def read_pt2(path: Path, card: Card) -> Predict:  # noqa: ARG001
    """Return a function that runs an exported program with PyTorch."""
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    return lambda pictures: np.asarray(program(torch.from_numpy(np.stack(pictures))))


def write_safetensors(
    whole: nn.Module, state: State, path: Path, example: torch.Tensor, metadata: Metadata  # noqa: ARG001
) -> None:  # fmt: skip
    """Write the weights under the names that the architecture has in its own library."""
    path.write_bytes(save(state, metadata))  # save_file would keep other users of this machine from reading it


def read_safetensors(path: Path, card: Card) -> Predict:
    """Return a function that runs the card's network with the weights of the file."""
    with safe_open(path, "pt") as file:
        classes = json.loads(file.metadata()["classes"])
    network = restore(card, len(classes), path)
    whole = probabilities(network, card)
    return lambda pictures: np.asarray(whole(torch.from_numpy(np.stack(pictures))))


FORMATS = {
    "onnx": (write_onnx, read_onnx),
    PICTURES: (write_onnx, read_onnx),
    "pt2": (write_pt2, read_pt2),
    "safetensors": (write_safetensors, read_safetensors),
}


if __name__ == "__main__":
    run(main, exclusive=True)
