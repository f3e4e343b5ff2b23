"""What files are by their names: pictures, archives, tables, or none of them."""

from __future__ import annotations

from pathlib import PurePosixPath

TABLES = {".csv", ".tsv", ".txt", ".jsonl", ".ndjson"}
ARCHIVES = {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst"}
# Suffixes of files that lie beside pictures and are none.
OTHER_SUFFIXES = ARCHIVES | TABLES | {
    ".md", ".rst", ".json", ".xml", ".yaml", ".yml", ".html", ".htm", ".css", ".js", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".log", ".ini", ".cfg", ".toml", ".db", ".py", ".ipynb", ".sh", ".m", ".mat", ".npy", ".npz", ".pkl",
    ".pickle", ".h5", ".hdf5", ".parquet", ".arrow", ".tfrecord", ".pt", ".pth", ".url", ".lnk", ".names", ".data",
    ".license", ".bib", ".tex", ".sql", ".sqlite",
}  # fmt: skip
BARE = {"license", "licence", "readme", "copying", "makefile", "authors", "changelog", "notice", "citation"}


def picture_like(path: PurePosixPath) -> bool:
    """Whether a file may be a picture, by its suffix."""
    return path.suffix.lower() not in OTHER_SUFFIXES and path.name.casefold() not in BARE
