"""The one way from file to pixels: path, bytes, Pillow image or array → uint8 ``(H, W, 3)`` RGB.

Training's evaluation, range collection, benchmarks and the device all call ``load``. A path,
bytes and a Pillow image that was not read yet give identical pixels; arrays and loaded Pillow
images only skip scaled decoding. Steps, each exactly once:

    decode (JPEG at 1/1 to 1/8, ``Geometry.scaled_decode``) → 8-bit RGB → EXIF upright
    → region of interest → one resample straight to the square
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from edge_fgr.contract import WHOLE, Geometry, Roi, box_of, check_roi
from edge_fgr.decode import decode, read_bytes
from edge_fgr.errors import ContractError, ImageError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    Pixels: TypeAlias = npt.NDArray[np.uint8]
    Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.generic]

__all__ = ["Channels", "fit", "load", "name_of", "read"]

Channels = Literal["rgb", "bgr"]
"""Order of the last axis of a colour array."""

_ORIENTATION = 0x0112


def load(
    source: Source,
    geometry: Geometry,
    *,
    channels: Channels | None = None,
    roi: Roi | None = None,
    name: str | None = None,
) -> Pixels:
    """Turn one image into the network's input.

    Args:
        source: path, encoded bytes, Pillow image, or array: uint8 ``(H, W, 3)``, or mono uint8 or
            uint16 ``(H, W)`` or ``(H, W, 1)``. 16-bit values are scaled by 255/65535 and rounded.
        geometry: the rules, from the model's contract.
        channels: order of a colour array; needed for those, ignored for all else.
        roi: region of interest that replaces the contract's, as shares of the upright picture.
        name: what messages call the image; by default its path.

    Returns:
        uint8 ``(size, size, 3)``, RGB, C-contiguous; perhaps read-only, and the array that was
        given where it fits as it is.

    Raises:
        ImageError: it could not be read whole.
        InputMissingError, PermissionDeniedError: the file is not there, or may not be read.
        UsageError: ``roi`` or ``channels`` cannot be meant.
    """
    region = geometry.roi or WHOLE
    if roi is not None:
        try:
            check_roi(roi)
        except ContractError as error:
            raise UsageError(str(error)) from None
        region = roi
    if channels == "rgb" and _fits_as_it_is(source, geometry, region):
        return cast("Pixels", source)
    picture = read(source, geometry, channels=channels, roi=region, name=name)
    return fit(picture, geometry, roi=region)


def read(
    source: Source,
    geometry: Geometry,
    *,
    channels: Channels | None = None,
    roi: Roi = WHOLE,
    name: str | None = None,
) -> Image.Image:
    """Decode to an upright 8-bit RGB picture that holds enough pixels for ``geometry``.

    The first half of ``load``, with the same arguments and errors; training augments from here.
    """
    from PIL import Image

    name = name or name_of(source)
    if isinstance(source, Image.Image):
        data = _unread_bytes(source)
        picture = source if data is None else _decode(data, name, geometry, roi)
    elif isinstance(source, bytes | bytearray | memoryview):
        picture = _decode(bytes(source), name, geometry, roi)
    elif isinstance(source, str | os.PathLike):
        picture = _decode(read_bytes(source), name, geometry, roi)
    else:
        return _from_array(source, channels, name)
    try:
        rgb = _to_rgb(picture, name)
        return _upright(picture, rgb) if geometry.exif == "upright" else rgb
    except (OSError, ValueError) as error:  # a loaded Pillow image may still fail here
        raise ImageError(f"{name}: cannot be converted to RGB ({error})") from None


def fit(picture: Image.Image, geometry: Geometry, *, roi: Roi = WHOLE) -> Pixels:
    """Cut the region of interest and resample it to the square: the second half of ``load``.

    Cutting and scaling are one resample: only the pixels that the network sees are computed.
    """
    import numpy as np
    from PIL import Image

    left, top, right, bottom = box_of(picture.size, roi)
    if geometry.resize == "short":
        side = min(right - left, bottom - top) * geometry.size / geometry.short_side
        left, top = (left + right - side) / 2, (top + bottom - side) / 2
        right, bottom = left + side, top + side
    kernel = Image.Resampling[geometry.kernel.upper()]
    square = (geometry.size, geometry.size)
    return np.asarray(picture.resize(square, kernel, box=(left, top, right, bottom)))


def name_of(source: object) -> str:
    """Return what messages call a source: its path, or a word for what has none."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(cast("str", source))
    return str(getattr(source, "filename", "")) or f"<{type(source).__name__}>"


def _fits_as_it_is(source: object, geometry: Geometry, region: Roi) -> bool:
    """Whether an array already is what would come out: Pillow copies a picture of the same size."""
    side = geometry.size
    return (
        getattr(source, "shape", None) == (side, side, 3)
        and str(getattr(source, "dtype", "")) == "uint8"
        and bool(getattr(getattr(source, "flags", None), "c_contiguous", False))
        and region == WHOLE
        and (geometry.resize == "stretch" or geometry.short_side == side)
    )


def _decode(data: bytes, name: str, geometry: Geometry, roi: Roi) -> Image.Image:
    """Decode at the smallest scale that leaves ``scaled_decode`` times the pixels needed."""
    if not geometry.scaled_decode:
        return decode(data, name)

    def need(size: tuple[int, int]) -> float:
        left, top, right, bottom = box_of(size, roi)
        short = max(1.0, min(right - left, bottom - top))
        return min(1.0, geometry.scaled_decode * geometry.short_side / short)

    return decode(data, name, need)


def _unread_bytes(image: Image.Image) -> bytes | None:
    """Return the encoded bytes of a Pillow image that was opened but not read; None otherwise."""
    file = getattr(image, "fp", None)
    if file is None or getattr(image, "_im", None) is not None or image.tell() != 0:
        return None
    try:
        position = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(position)
    except (OSError, ValueError, AttributeError):
        return None
    return bytes(data)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB. Transparency is laid over white, as viewers show it; ICC profiles are ignored."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # I, I;16, I;16B: PNG and TIFF with 16 bits a sample
        import numpy as np

        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ImageError(f"{name}: more than 16 bits a pixel; convert it", kind="unsupported")
        return _from_array(values.astype(np.uint16), None, name)
    if image.mode == "F":
        raise ImageError(
            f"{name}: floating-point pixels have no agreed range; convert it to 8 or 16 bits",
            kind="unsupported",
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn ``rgb`` as the EXIF orientation of ``image`` says; unreadable EXIF means no turn."""
    from PIL import Image

    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF is free-form: any error here says nothing about the pixels
        return rgb
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)  # type: ignore[arg-type]  # whatever stands there: only 2 to 8 turn
    return rgb if turn is None else rgb.transpose(turn)


def _from_array(array: object, channels: Channels | None, name: str) -> Image.Image:
    import numpy as np
    from PIL import Image

    values = np.asarray(array)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if 0 in values.shape:
        raise ImageError(f"{name}: an array without pixels", kind="empty")
    if values.ndim == 2 and values.dtype == np.uint16:
        values = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if values.ndim == 2 and values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
        if channels not in ("rgb", "bgr"):
            raise UsageError(f'{name}: a colour array needs channels="rgb" or channels="bgr"')
        ordered = values if channels == "rgb" else values[:, :, ::-1]
        return Image.fromarray(np.ascontiguousarray(ordered))
    raise ImageError(
        f"{name}: arrays are uint8 (H, W, 3), or mono uint8 or uint16 (H, W), "
        f"not {values.dtype} {values.shape}",
        kind="unsupported",
    )
