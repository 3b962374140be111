"""What sort of file a name promises."""

from __future__ import annotations

from pathlib import PurePosixPath

_KINDS = {
    "plot": ".png .jpg .jpeg .gif .pdf .svg .eps .bmp .tiff .tif .webp",
    "data": ".csv .tsv .dat .json .pkl .pickle .npz .npy .parquet .yaml .yml .h5 .hdf5 .fits",
    "code": ".py .ipynb .js .ts .java .cpp .c .h .go .rs .rb .sh .f90",
    "report": ".txt .md .rst .html .tex",
    "log": ".log",
    "document": ".doc .docx .odt .ppt .pptx .ps",
}
_KIND_OF = {ending: kind for kind, endings in _KINDS.items() for ending in endings.split()}
# of our own, not the machine's: a file has the same type wherever the server runs
_MIMES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".svg": "image/svg+xml",
    ".eps": "application/postscript",
    ".ps": "application/postscript",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
    ".ipynb": "application/json",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".fits": "application/fits",
    ".md": "text/markdown",
    ".html": "text/html",
    ".py": "text/x-python",
}
_TEXT = ("code", "report", "log")


def classify(path: str) -> tuple[str, str]:
    """Kind and media type, by the name's ending alone: plot, data, code, report, log, document
    or other."""
    ending = PurePosixPath(path).suffix.lower()
    kind = _KIND_OF.get(ending, "other")
    text = kind in _TEXT
    return kind, _MIMES.get(ending, "text/plain" if text else "application/octet-stream")
