"""Raw ids come out of every kind of label file, or the file is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmseg_opengan.contracts import CLOSED, IGNORE
from mmseg_opengan.datasets.label_file import ORIENTATION, read_label_file
from mmseg_opengan.datasets.label_map import camvid_labels, meaning_of_ids

NAMES = {i: f'c{i}' for i in range(200)}
EVERY_ID = meaning_of_ids('every id', tuple(NAMES.values()), (), NAMES)
SIZE = (5, 11)  # rows that do not end at a byte


def ids_of(bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, min(2**bits, 200), SIZE, np.uint8)


def packed(rows: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples as PNG and TIFF store them, big-endian, each row padded to a byte."""
    shifts = np.arange(bits - 1, -1, -1)
    flat = rows.reshape(len(rows), -1)
    return [np.packbits((row[:, None] >> shifts) & 1).tobytes() for row in flat.astype(np.uint16)]


def png(rows: np.ndarray, bits: int, colour_type: int) -> bytes:
    """A PNG of samples (H, W) or (H, W, channels), as its specification has it."""

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    head = struct.pack('>IIBBBBB', rows.shape[1], rows.shape[0], bits, colour_type, 0, 0, 0)
    palette = np.random.default_rng(0).integers(0, 256, 3 * 2 ** min(bits, 8), np.uint8).tobytes()
    data = zlib.compress(b''.join(b'\0' + row for row in packed(rows, bits)))
    parts = [chunk(b'IHDR', head), chunk(b'IDAT', data), chunk(b'IEND', b'')]
    if colour_type == 3:
        parts.insert(1, chunk(b'PLTE', palette))
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def tiff(rows: np.ndarray, bits: int, photometric: int, tags=()) -> bytes:
    """An uncompressed TIFF of samples (H, W): 0 white is zero, 1 black is zero, 3 palette."""
    data = b''.join(packed(rows, bits))
    fields = [
        (256, 3, rows.shape[1]),
        (257, 3, rows.shape[0]),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, rows.shape[0]),
        (279, 4, len(data)),
        *tags,
    ]
    after = 8 + len(data)
    end = b'\0' * 4
    if photometric == 3:
        fields.append((320, 3, None))
        colours = np.random.default_rng(0).integers(0, 256, 3 * 2**bits) * 257
        end += struct.pack(f'>{len(colours)}H', *colours)
    directory = struct.pack('>H', len(fields))
    for tag, kind, value in sorted(fields):
        if value is None:
            place = after + 2 + 12 * len(fields) + 4
            directory += struct.pack('>HHII', tag, kind, 3 * 2**bits, place)
        elif kind == 3:
            directory += struct.pack('>HHIHH', tag, kind, 1, value, 0)
        else:
            directory += struct.pack('>HHII', tag, kind, 1, value)
    return struct.pack('>2sHI', b'MM', 42, after) + data + directory + end


def read(path, content: bytes, labels=EVERY_ID):
    path.write_bytes(content)
    return read_label_file(str(path), labels)


@pytest.mark.parametrize(
    ('write', 'kind'),
    [(png, 0), (png, 3), (tiff, 0), (tiff, 1), (tiff, 3)],
    ids=['grey PNG', 'palette PNG', 'white-is-zero TIFF', 'grey TIFF', 'palette TIFF'],
)
def test_every_bit_depth_gives_the_raw_ids(tmp_path, write, kind):
    for bits in (1, 2, 4, 8):
        ids = ids_of(bits)
        closed, open_map = read(tmp_path / 'a', write(ids, bits, kind))
        assert closed.tolist() == ids.tolist()
        assert (open_map == CLOSED).all()


@pytest.mark.parametrize('mode', ['1', 'L', 'P'])
def test_bitmaps(tmp_path, mode):
    ids = ids_of(1 if mode == '1' else 8)
    image = Image.fromarray(ids.astype(bool) if mode == '1' else ids)
    if mode == 'P':
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    content = io.BytesIO()
    image.save(content, 'BMP')
    assert read(tmp_path / 'a', content.getvalue())[0].tolist() == ids.tolist()


@pytest.mark.parametrize(('colour_type', 'channels'), [(0, 1), (2, 3)])
def test_sixteen_bits_are_refused(tmp_path, colour_type, channels):
    """Pillow keeps the upper byte of colours: those of a label would all be 0, which is void."""
    rows = np.zeros((*SIZE, channels), np.uint16)
    with pytest.raises(ValueError, match=r"a' cannot be decoded: .* 8 bits .*\(16 bits a channel"):
        read(tmp_path / 'a', png(rows, 16, colour_type), camvid_labels())
    if channels == 1:
        with pytest.raises(ValueError, match='16 bits a channel'):
            read(tmp_path / 'a', tiff(rows[..., 0], 16, 1))


@pytest.mark.parametrize(('colour_type', 'channels'), [(2, 3), (4, 2)])
def test_colours_and_transparency_are_no_ids(tmp_path, colour_type, channels):
    rows = np.zeros((*SIZE, channels), np.uint8)
    with pytest.raises(ValueError, match=rf'one 8-bit channel .* shape \(5, 11, {channels}\)'):
        read(tmp_path / 'a', png(rows, 8, colour_type))


@pytest.mark.parametrize('kind', ['JPEG', 'GIF', 'PPM', 'WEBP'])
def test_formats_that_do_not_keep_ids_are_refused(tmp_path, kind):
    content = io.BytesIO()
    Image.fromarray(ids_of(8)).save(content, kind)
    with pytest.raises(ValueError, match=r'wanted a complete PNG, .*it begins with'):
        read(tmp_path / 'a', content.getvalue())


def test_a_tiff_compressed_as_jpeg_is_refused(tmp_path):
    Image.fromarray(ids_of(8)).save(tmp_path / 'a', 'TIFF', compression='jpeg')
    with pytest.raises(ValueError, match='compression by JPEG'):
        read_label_file(str(tmp_path / 'a'), EVERY_ID)


def test_labels_with_an_orientation(tmp_path):
    """A TIFF is turned, as OpenCV turns images; a PNG, which Pillow leaves as it lies, is refused."""
    ids = ids_of(8)
    turned, _ = read(tmp_path / 'a', tiff(ids, 8, 1, [(ORIENTATION, 3, 3)]))
    assert turned.tolist() == ids[::-1, ::-1].tolist()
    image = Image.fromarray(ids)
    exif = image.getexif()
    exif[ORIENTATION] = 3
    image.save(tmp_path / 'a.png', exif=exif)
    with pytest.raises(ValueError, match='to be turned, by its EXIF orientation'):
        read_label_file(str(tmp_path / 'a.png'), EVERY_ID)


def test_large_labels(tmp_path):
    """Pillow's own door refuses what OpenCV, which reads the images, does not."""
    size = (14000, 13500)
    packed_zeros = zlib.compressobj(1)
    row = b'\0' * (1 + -(-size[1] // 8))
    data = b''.join(packed_zeros.compress(row) for _ in range(size[0])) + packed_zeros.flush()
    small = png(np.zeros((1, size[1]), np.uint8), 1, 0)
    head = small[:16] + struct.pack('>II', size[1], size[0]) + small[24:29]
    chunk = b'IDAT' + data
    content = head + struct.pack('>I', zlib.crc32(head[12:29]))
    content += struct.pack('>I', len(data)) + chunk + struct.pack('>I', zlib.crc32(chunk))
    closed, _ = read(tmp_path / 'a', content)
    assert closed.shape == size
    assert not closed.any()


def test_more_pixels_than_an_image_may_have(tmp_path):
    head = b'IHDR' + struct.pack('>IIBBBBB', 1 << 16, 1 << 16, 1, 0, 0, 0, 0)
    content = b'\x89PNG\r\n\x1a\n' + struct.pack('>I', 13) + head
    content += struct.pack('>I', zlib.crc32(head)) + struct.pack('>I', 0) + b'IDAT'
    with pytest.raises(ValueError, match='65536 x 65536 pixels, the limit is'):
        read(tmp_path / 'a', content + struct.pack('>I', zlib.crc32(b'IDAT')))


@pytest.mark.parametrize('keep', [0, 40, 60])
def test_broken_label_file_is_named(tmp_path, keep):
    with pytest.raises(ValueError, match=rf"Label file '.*a' cannot be decoded.*found {keep} byte"):
        read(tmp_path / 'a', png(ids_of(8), 8, 0)[:keep])


def test_colour_and_palette_label_files(tmp_path):
    """RGB labels are converted by colour, also where a palette holds them in another order; other
    palettes show ids.
    """
    labels = camvid_labels()
    ids = np.random.default_rng(0).integers(0, 32, (5, 7), np.uint8)
    Image.fromarray(labels.colours[ids]).save(tmp_path / 'rgb.png')
    Image.fromarray(ids).save(tmp_path / 'ids.png')
    shown = Image.fromarray(ids)
    shown.putpalette(labels.colours.ravel().tolist())  # turns mode 'L' into 'P'
    shown.save(tmp_path / 'palette.png')
    shown.putpalette(np.random.default_rng(1).integers(1, 60, 3 * 256, np.uint8).tolist())
    shown.save(tmp_path / 'other palette.png')
    Image.fromarray(labels.colours[ids]).quantize(32).save(tmp_path / 'quantized.png')
    assert not np.array_equal(np.array(Image.open(tmp_path / 'quantized.png')), ids)
    for name in ('rgb', 'ids', 'palette', 'other palette', 'quantized'):
        closed, open_map = read_label_file(str(tmp_path / f'{name}.png'), labels)
        assert (closed == labels.closed_lut[ids]).all()
        assert (open_map == labels.open_lut[ids]).all()
    assert IGNORE in closed
