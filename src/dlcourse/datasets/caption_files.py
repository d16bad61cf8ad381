"""Pictures with captions from files in the layouts of COCO and Flickr: read, never downloaded."""

from __future__ import annotations

import csv
import json
from pathlib import Path


def coco_captions(annotations: Path | str, images: Path | str) -> list[tuple[Path, str]]:
    """All pairs of a COCO caption file such as ``captions_val2017.json``, in its order.

    Args:
        annotations: JSON with ``images`` (``id``, ``file_name``) and ``annotations``
            (``image_id``, ``caption``).
        images: the folder with the pictures.

    Raises ValueError: not such a file, a caption of an unknown picture, an empty caption;
    FileNotFoundError: a picture that is not there.
    """
    text = Path(annotations).read_text(encoding="utf8")
    try:
        content = json.loads(text)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        rows = [(a["image_id"], a["caption"]) for a in content["annotations"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{annotations} is not in the layout of COCO's captions (images with id and file_name, "
            f"annotations with image_id and caption): {error!r}"
        ) from error
    if unknown := sorted({i for i, _ in rows if i not in names}, key=str):
        raise ValueError(f"{annotations} has captions of pictures that it does not list: {unknown}")
    return _checked([(names[i], caption) for i, caption in rows], Path(images), annotations)


def flickr_captions(annotations: Path | str, images: Path | str) -> list[tuple[Path, str]]:
    """All pairs of a caption file of Flickr8k or Flickr30k, in its order.

    Args:
        annotations: text with a line a caption: ``name.jpg,caption`` or ``name.jpg| 0| caption``
            below a heading, or ``name.jpg#0<tab>caption`` without one.
        images: the folder with the pictures.

    Raises ValueError: no such line, an empty caption; FileNotFoundError: a picture that is not
    there.
    """
    with open(annotations, encoding="utf8", newline="") as file:
        lines = [line.rstrip("\r\n") for line in file if line.strip()]
    if not lines:
        raise ValueError(f"{annotations} is empty")
    if "\t" in lines[0]:
        rows = [line.partition("\t")[::2] for line in lines]
        pairs = [(name.partition("#")[0], caption) for name, caption in rows]
    elif "|" in lines[0]:
        rows = [[part.strip() for part in line.split("|", 2)] for line in lines[1:]]
        pairs = [(row[0], row[2] if len(row) == 3 else "") for row in rows]
    elif "," in lines[0]:
        rows = list(csv.reader(lines[1:], skipinitialspace=True))
        pairs = [(row[0], ",".join(row[1:])) for row in rows]
    else:
        raise ValueError(
            f"{annotations} is not in the layout of Flickr's captions: its first line has neither "
            f"a tab, nor |, nor a comma: {lines[0]!r}"
        )
    return _checked(pairs, Path(images), annotations)


def _checked(
    pairs: list[tuple[str, str]], folder: Path, annotations: Path | str
) -> list[tuple[Path, str]]:
    found = []
    for name, caption in pairs:
        if not caption.strip():
            raise ValueError(f"{annotations} has an empty caption, of {name}")
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{annotations} names {name}, which is not in {folder}")
        found.append((path, caption.strip()))
    return found
