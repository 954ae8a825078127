"""Pictures as text and back: what an event, a setting or a page holds of them."""

from __future__ import annotations

import base64
import binascii
import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from models.errors import BadInput

LARGEST = 4096  # pixels along a side: more is no picture to compare with 32 or 512 pixels
BYTES = 20 * 2**20
SAVE = "Save it again as a PNG or JPEG of at most 1024 x 1024 pixels"


def encode(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    """The picture as a PNG in base64; behind "data:image/png;base64," a browser shows it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def decode(text: str) -> UInt8[np.ndarray, "height width 3"]:
    """The picture that `encode` wrote, to the last bit. Raises `ValueError` on anything else."""
    try:
        return _opened(base64.b64decode(text, validate=True))
    except (binascii.Error, BadInput) as error:
        raise ValueError(f"this is no picture in base64 ({error})") from error


def read(where: str, setting: str = "picture") -> UInt8[np.ndarray, "height width 3"]:
    """The picture that someone gave: base64, with or without "data:image/...;base64," before it, or, where this is no public server, a file.

    Raises `BadInput`, for `setting`, on a missing, broken or huge one.
    """
    where = where.strip()
    head, comma, tail = where.partition(";base64,")
    if comma or (len(where) > 255 and "/" not in where[:1]):
        try:
            return _opened(base64.b64decode(tail or head, validate=True), setting)
        except binascii.Error as error:
            raise BadInput("the picture's text is broken", "it is no base64, or was cut off", "Choose the picture again", setting=setting) from error
    if os.environ.get("MNEMOSCOPE_PUBLIC", "") not in ("", "0") or "SPACE_ID" in os.environ:
        raise BadInput("this server reads no files of its own", "it is open to everyone", "Send the picture itself", setting=setting)
    return file(Path(where).expanduser(), setting)


def file(path: Path, setting: str = "picture") -> UInt8[np.ndarray, "height width 3"]:
    """The picture in a file. Raises `BadInput`, for `setting`, on a missing, broken or huge one."""
    try:
        if path.stat().st_size > BYTES:
            raise BadInput(f"{path.name} has {path.stat().st_size / 2**20:.0f} MiB", f"the lab reads {BYTES // 2**20} MiB at most", SAVE, setting=setting)
        return _opened(path.read_bytes(), setting, path.name)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name[:80] or 'the picture'} cannot be read ({getattr(error, 'strerror', None) or error})", "the path is misspelled",
                       "Give the path of a PNG or JPEG", setting=setting) from error


def _opened(data: bytes, setting: str = "picture", name: str = "the picture") -> np.ndarray:
    """The pixels of a file, transparency on white. Its size is looked at before it is unpacked."""
    from PIL import Image, UnidentifiedImageError

    if len(data) > BYTES:
        raise BadInput(f"{name} has {len(data) / 2**20:.0f} MiB", f"the lab reads {BYTES // 2**20} MiB at most", SAVE, setting=setting)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")) as file:
            if max(file.size) > LARGEST or min(file.size) < 1:
                raise BadInput(f"{name} has {file.size[0]} x {file.size[1]} pixels", f"the lab reads up to {LARGEST} along a side", SAVE, setting=setting)
            if "A" in file.getbands() or "transparency" in file.info:
                clear = file.convert("RGBA")
                whole = Image.new("RGBA", file.size, "white")
                whole.alpha_composite(clear)
                return np.asarray(whole.convert("RGB"))
            return np.asarray(file.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        kind = str(error).splitlines()[0][:100] if not isinstance(error, UnidentifiedImageError) else "no PNG, JPEG, WebP, GIF or BMP"
        raise BadInput(f"{name} cannot be read ({kind})", "the file is broken, cut off, or no picture", SAVE, setting=setting) from error
