"""Encoded bytes to one whole Pillow image, or an ``ImageError`` that says why not.

*Whole* means that the decoder reached the end without an error and that the file's own end mark
is there: a tail that a broken copy filled with zeros is refused even where the decoder would
paint over it. Two kinds of damage cannot be seen by anyone: a flipped bit inside entropy-coded
data, which usually decodes silently, and zeros in the tail of an uncompressed file (BMP, PPM,
TIFF), which are black pixels.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from edge_fgr.errors import ImageError, InputMissingError, PermissionDeniedError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode", "prepare", "read_bytes", "read_stream"]

MAX_BYTES = 1 << 29
"""Largest encoded image that is read, in bytes (512 MiB)."""

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded: the size at which Pillow speaks of a decompression bomb."""

# Only plain raster formats with a signature: other plug-ins of Pillow start programs (EPS), draw
# (WMF) or take any bytes (TGA). The common ones are there without loading the other plug-ins.
_COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")
_RARE = ("WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "QOI")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_ZERO_TAIL = 16
_STEP = 1 << 20


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises:
        InputMissingError: no such file, or a folder.
        PermissionDeniedError: it may not be read.
        ImageError: it is larger than ``MAX_BYTES``, or reading failed half-way.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123  pathlib costs 5 ms at start-up
            return read_stream(file, name, os.fstat(file.fileno()).st_size)
    except IsADirectoryError:
        raise InputMissingError(
            f"{name}: is a folder, not an image; add -r to classify it"
        ) from None
    except PermissionError:
        raise PermissionDeniedError(f"{name}: may not be read; check its permissions") from None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise InputMissingError(f"{name}: no such file; check the path") from None
    except OSError as error:
        if os.path.isdir(name):  # noqa: PTH112
            message = f"{name}: is a folder, not an image; add -r to classify it"
            raise InputMissingError(message) from None
        raise ImageError(f"{name}: reading failed ({error.strerror}); copy it again") from None


def read_stream(file: BinaryIO, name: str, expected: int = 0) -> bytes:
    """Return what is left of a stream, in memory of about its own size.

    Args:
        file: open for reading.
        name: what messages call it.
        expected: how many bytes are probably left: room for what is asked for is taken at once.

    Raises:
        ImageError: there is more than ``MAX_BYTES``, or not enough memory.
    """
    try:
        data = file.read(min(expected, MAX_BYTES) + 1)
        if len(data) > expected:  # a pipe, which tells no size, or a file that grows
            parts, size = [data], len(data)
            while size <= MAX_BYTES and (part := file.read(_STEP)):
                parts.append(part)
                size += len(part)
            data = b"".join(parts)
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to read it", kind="too_large") from None
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"{name}: larger than {MAX_BYTES >> 20} MiB; scale the picture down first",
            kind="too_large",
        )
    return data


def decode(
    data: bytes, name: str, need: Callable[[tuple[int, int]], float] | None = None
) -> Image.Image:
    """Decode the first frame of an encoded image, whole.

    Args:
        data: the encoded bytes.
        name: what messages call the image.
        need: told the full size in pixels, answers the share (0 to 1) of it that is needed; a JPEG
            is then decoded by libjpeg at the smallest of 1, 1/2, 1/4 and 1/8 that is not below.
            None decodes at full size.

    Raises:
        ImageError: not an image, not whole, too large, or of a kind that cannot be read here.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"{name}: empty file; copy it again", kind="empty")
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        _register_heic(name)
    try:
        image = _open(data)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if need and image.format in ("JPEG", "MPO"):
            share = need((width, height))
            image.draft(image.mode, (max(1, int(width * share)), max(1, int(height * share))))
        # All is in memory: one call decodes it, with one change of the interpreter's lock.
        image.decodermaxblock = max(65536, len(data))  # type: ignore[attr-defined]
        image.load()
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name}: more than {MAX_PIXELS // 1_000_000} megapixels (a decompression bomb?); "
            "scale the picture down first",
            kind="too_large",
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name}: not an image that can be read here; convert it to JPEG or PNG",
            kind="not_an_image",
        ) from None
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it", kind="too_large") from None
    except Exception as error:  # Pillow's plug-ins raise anything on hostile bytes
        kind = "truncated" if "truncated" in str(error) else "damaged"
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: {kind} image ({cause}); copy it again", kind=kind) from None
    if not _ends_properly(data, image.format):
        raise ImageError(
            f"{name}: truncated image (its end mark is missing); copy it again", kind="truncated"
        )
    return image


def prepare() -> None:
    """Import what decoding a JPEG needs: 10 ms that a start can spend while a model is opened."""
    from PIL import Image, JpegImagePlugin  # noqa: F401


def _open(data: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if data.startswith(b"\xff\xd8\xff"):
        # What Image.open ends in, without importing the plug-ins of all other formats first.
        from PIL import JpegImagePlugin

        try:
            return JpegImagePlugin.jpeg_factory(io.BytesIO(data))
        except (SyntaxError, IndexError, TypeError, struct.error):
            raise UnidentifiedImageError from None
    try:
        return Image.open(io.BytesIO(data), formats=_COMMON)
    except UnidentifiedImageError:
        Image.init()
        known = [name for name in _RARE if name in Image.OPEN]
        return Image.open(io.BytesIO(data), formats=known)


def _register_heic(name: str) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f"{name}: HEIC needs the package pillow-heif; pip install pillow-heif",
            kind="unsupported",
        ) from None
    pillow_heif.register_heif_opener()


def _ends_properly(data: bytes, kind: str | None) -> bool:
    """Whether the end mark of the format is there; zeros or anything else may follow it."""
    if kind in ("JPEG", "MPO"):
        return data.rstrip(b"\0").endswith(b"\xff\xd9") or _has_end_of_image(data)
    if kind == "PNG":
        return b"IEND\xaeB`\x82" in data
    if kind == "GIF":
        return data.rstrip(b"\0").endswith(b";")
    if kind == "WEBP":
        end = 8 + int.from_bytes(data[4:8], "little")
        return len(data) >= end and any(data[max(0, end - _ZERO_TAIL) : end])
    if kind in ("AVIF", "HEIF", "JPEG2000"):
        return any(data[-_ZERO_TAIL:])
    return True


def _has_end_of_image(data: bytes) -> bool:
    """Walk the segments of a JPEG from its start; True when the walk meets EOI (ITU-T T.81, B.1).

    Searching for the two bytes would not do: the thumbnail inside EXIF has an EOI of its own.
    """
    position = 2
    while match := _MARKER.search(data, position):
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9:
            return True
        if marker not in (0x01, 0xD8):  # all others carry their length; entropy data may follow
            position += int.from_bytes(data[position : position + 2], "big")
    return False
