"""Never a picture that was not read whole, and never an error that is not ours."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from edge_fgr.contract import Geometry
from edge_fgr.decode import MAX_PIXELS, decode, read_bytes
from edge_fgr.errors import EdgeFgrError, ImageError, InputMissingError
from edge_fgr.image import load
from pictures import opened


def encoded(photo, kind, **options) -> bytes:
    out = io.BytesIO()
    with Image.open(photo) as picture:
        picture.convert("P" if kind == "GIF" else "RGB").save(out, kind, **options)
    return out.getvalue()


def kind_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, "x.jpg")
    assert str(caught.value).startswith("x.jpg: ")
    assert "\n" not in str(caught.value)
    return caught.value.kind


KINDS = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {})]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_every_truncation_raises(photos, kind, options):
    data = encoded(photos[0], kind, **options)
    assert decode(data, "x").size == opened(photos[0]).size
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        assert kind_of(data[: int(len(data) * share)]) in ("truncated", "damaged", "not_an_image")
    assert kind_of(data[:-2]) in ("truncated", "damaged")


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_zero_filled_tail_raises(photos, kind, options):
    data = encoded(photos[0], kind, **options)
    for share in (0.3, 0.6, 0.9, 0.99):
        kept = int(len(data) * share)
        assert kind_of(data[:kept] + bytes(len(data) - kept)) in ("truncated", "damaged")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_anything_may_follow_the_end_mark(photos, kind):
    data = encoded(photos[0], kind)
    assert decode(data + bytes(4096), "x").size == decode(data, "x").size
    if kind != "GIF":
        assert decode(data + b"trailing bytes of a phone", "x").size == decode(data, "x").size


def test_end_mark_of_a_thumbnail_is_not_the_end(photos):
    thumbnail = encoded(photos[1], "JPEG", quality=20)[:60_000]
    segment = b"Exif\0\0" + thumbnail
    data = photos[0].read_bytes()
    whole = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert decode(whole, "x").size == opened(photos[0]).size
    kept = len(whole) - 500
    assert kind_of(whole[:kept] + bytes(500)) == "truncated"


def test_empty_text_and_random_bytes():
    assert kind_of(b"") == "empty"
    assert kind_of(b"this is no image at all, only a line of text\n") == "not_an_image"
    assert kind_of(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8) in ("damaged", "not_an_image")


def test_bomb_is_refused_before_it_is_decoded():
    def chunk(tag: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(tag + body)
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", crc)

    side = int(MAX_PIXELS**0.5) + 2
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert kind_of(bomb) == "too_large"


def test_heic_without_its_plug_in_names_the_package():
    pytest.importorskip("PIL")
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        with pytest.raises(ImageError, match="pip install pillow-heif") as caught:
            decode(head, "x.heic")
        assert caught.value.kind == "unsupported"


def test_programs_are_never_started_for_a_file():
    assert kind_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not_an_image"


def test_flipped_bytes_never_escape_as_foreign_errors(photos):
    """A flipped byte may decode silently (docs say so); what fails, fails as one of ours."""
    for kind, options in KINDS:
        data = bytearray(encoded(photos[0], kind, **options))
        for place in range(3, len(data), max(1, len(data) // 60)):
            broken = bytes(data[:place]) + bytes([data[place] ^ 0xFF]) + bytes(data[place + 1 :])
            try:
                load(broken, Geometry(size=32))
            except EdgeFgrError as error:
                assert isinstance(error, ImageError)


def test_missing_folder_and_strange_names(tmp_path):
    for name in (tmp_path / "absent.jpg", "nul\0byte.jpg", tmp_path / "a" / "b.jpg", "x" * 5000):
        with pytest.raises((InputMissingError, ImageError)):
            read_bytes(name)
    with pytest.raises(InputMissingError, match="add -r"):
        read_bytes(tmp_path)


def test_reading_takes_the_memory_of_the_file(photos):
    data = photos[0].read_bytes()
    tracemalloc.start()
    try:
        assert read_bytes(photos[0]) == data
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + (64 << 10)
    finally:
        tracemalloc.stop()


def test_the_largest_file_and_one_byte_more(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_fgr.decode.MAX_BYTES", 3000)
    for size in (0, 2999, 3000):
        (tmp_path / "most").write_bytes(bytes(size))
        assert read_bytes(tmp_path / "most") == bytes(size)
    (tmp_path / "more").write_bytes(bytes(3001))
    for endless in (tmp_path / "more", "/dev/zero"):
        with pytest.raises(ImageError, match="larger than") as caught:
            read_bytes(endless)
        assert caught.value.kind == "too_large"


def test_pipes_are_read(photos):
    reader, writer = os.pipe()
    data = encoded(photos[0], "JPEG", quality=30)[:60_000]
    os.write(writer, data)
    os.close(writer)
    try:
        assert read_bytes(f"/dev/fd/{reader}") == data
    finally:
        os.close(reader)
