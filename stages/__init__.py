"""Transfer learning as a DVC pipeline: dvc.yaml lists the stages, and each is a module here."""
