"""What raw pixels are worth: logistic regression on pictures shrunk to 32 x 32, its penalty chosen on `train`.

python benchmarks/pixels.py data/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """Print the accuracy on `val`."""
    images = Path(sys.argv[1])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(model, {"logisticregression__C": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}, cv=5)
    search.fit(*read(images / "train"))
    print(f"accuracy {search.score(*read(images / 'val')):.4f} with {search.best_params_}")


def read(folder: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Return the pixels, (pictures, 32 * 32 * 3), and the classes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((32, 32)), dtype=float).ravel() for file in files]
    return np.stack(pixels), [file.relative_to(folder).parts[0] for file in files]


if __name__ == "__main__":
    main()
