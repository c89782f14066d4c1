"""When and where a photo was taken, from its EXIF (CIPA DC-008: tags 36867 and GPS IFD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Capture", "capture_of"]

_EXIF_IFD, _GPS_IFD, _TIME_ORIGINAL, _TIME = 0x8769, 0x8825, 0x9003, 0x0132


@dataclass(frozen=True, slots=True)
class Capture:
    """``time`` as the camera wrote it in ISO form (no zone known); degrees, south and west < 0."""

    time: str | None = None
    latitude: float | None = None
    longitude: float | None = None


def capture_of(path: str) -> Capture:
    """Read the header of a file; whatever is missing or unreadable is None."""
    from PIL import Image

    try:
        with Image.open(path) as photo:
            exif = photo.getexif()
            time = exif.get_ifd(_EXIF_IFD).get(_TIME_ORIGINAL) or exif.get(_TIME)
            gps = exif.get_ifd(_GPS_IFD)
        return Capture(
            _iso(time), _degrees(gps.get(2), gps.get(1), "S"), _degrees(gps.get(4), gps.get(3), "W")
        )
    except Exception:  # EXIF is free-form, and a photo without it is as good a photo
        return Capture()


def _iso(value: Any) -> str | None:
    text = str(value or "").strip("\0 ")
    date, _, clock = text.partition(" ")
    return f"{date.replace(':', '-')}T{clock}" if len(text) == 19 else None


def _degrees(parts: Any, reference: Any, negative: str) -> float | None:
    if not parts or len(parts) != 3:
        return None
    value = float(parts[0]) + float(parts[1]) / 60 + float(parts[2]) / 3600
    if not 0 <= value <= 180:
        return None
    return round(-value if reference == negative else value, 6)
