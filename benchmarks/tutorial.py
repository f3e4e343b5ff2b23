"""The transfer learning tutorial's recipe as a plain script, to measure the pipeline against.

Every picture goes through the whole network in every epoch: batches of 4, SGD with momentum, the learning rate divided
by 10 after 7 of 10 epochs, one random-resized crop and flip of each training picture. `val` is evaluated after every
epoch; the tutorial reports the best of them, this prints the last as well.

    python benchmarks/tutorial.py data/images data/weights/weights.safetensors [--finetune]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from stages.files.card import Card
from stages.model.catalogue import build, preprocessing
from stages.model.chain import layers, module_names, restore

NORMALISE = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
TRANSFORMS = {
    "train": [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *NORMALISE],
    "val": [transforms.Resize(256), transforms.CenterCrop(224), *NORMALISE],
}


def main() -> None:
    """Train as the tutorial does and print the accuracies and the time."""
    parser = argparse.ArgumentParser(description="The transfer learning tutorial's recipe.")
    parser.add_argument("images", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("weights", type=Path, help="ResNet-18 weights without a head, as safetensors")
    parser.add_argument("--finetune", action="store_true", help="train every layer, not the last alone")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    started = time.perf_counter()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaders = {}
    for split, steps in TRANSFORMS.items():
        pictures = ImageFolder(str(arguments.images / split), transforms.Compose(steps))
        loaders[split] = DataLoader(pictures, batch_size=4, shuffle=True, num_workers=4)
    name = "resnet18"
    card = Card(name, module_names(build(name, 1), name), preprocessing(name, []), "pretrained")
    network = restore(card, len(pictures.classes), arguments.weights)
    trained = network if arguments.finetune else layers(network, name)["head"]
    network.requires_grad_(requires_grad=False)
    trained.requires_grad_(requires_grad=True)
    network.to(device)
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.001, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, step_size=7, gamma=0.1)

    accuracies = []
    for epoch in range(arguments.epochs):
        right = {}
        for split, loader in loaders.items():
            network.train(split == "train")
            right[split] = 0
            for batch, labels in loader:
                inputs, targets = batch.to(device), labels.to(device)
                with torch.set_grad_enabled(split == "train"):
                    logits = network(inputs)
                    loss = F.cross_entropy(logits, targets)
                if split == "train":
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                right[split] += int((logits.argmax(dim=1) == targets).sum())
        schedule.step()
        accuracies.append(right["val"] / len(pictures))
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: val accuracy {accuracies[-1]:.4f}, {seconds:.1f} s so far", flush=True)
    print(f"best {max(accuracies):.4f}, last {accuracies[-1]:.4f}, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
