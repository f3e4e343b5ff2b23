"""Transfer learning as a DVC pipeline: dvc.yaml tells the story, one module here tells each part of it."""
