"""What a competent user would write in an afternoon: features once with torchvision, then scikit-learn.

    python -m benchmarks.script hymenoptera_data.zip resnet18.pth

The zip is unpacked, each picture goes through the frozen network once, and LogisticRegressionCV chooses its penalty by
cross-validation on the training pictures. Prints the accuracy on `val`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip", type=Path, help="with train/<class>/ and val/<class>/ in one folder")
    parser.add_argument("weights", type=Path, help="of ResNet-18, a state dict")
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = models.resnet18()
    network.load_state_dict(torch.load(arguments.weights, weights_only=True))
    network.fc = torch.nn.Identity()
    network.eval().to(device)
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    features, labels = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        with ZipFile(arguments.zip) as archive:
            archive.extractall(folder)
        (top,) = (path.parent for path in Path(folder).rglob("train") if path.is_dir())
        for image in top.rglob("imageNotFound.*"):
            image.unlink()
        for split in ("train", "val"):
            pictures = ImageFolder(str(top / split), transform)
            batches = DataLoader(pictures, batch_size=32, num_workers=2)
            with torch.inference_mode():
                outputs = [network(batch.to(device)).cpu().numpy() for batch, _ in batches]
            features[split], labels[split] = np.concatenate(outputs), np.array(pictures.targets)
    head = LogisticRegressionCV(Cs=5, max_iter=2000).fit(features["train"], labels["train"])
    print(f"accuracy {head.score(features['val'], labels['val']):.4f}")


if __name__ == "__main__":
    main()
