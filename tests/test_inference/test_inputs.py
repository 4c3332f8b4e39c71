"""Images, lists and folders as people have them: each is read right, or named in an error."""

import os
import shutil
import warnings
from pathlib import Path

import cv2
import matplotlib
import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tiny_camvid import PLAIN

from mmseg_opengan.inference.drawing import contact_sheet
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.inference.inputs import list_inputs
from mmseg_opengan.inference.reading import as_picture


def run(inferencer, inputs, **options):
    return inferencer(inputs, show_progress=False, **options)


def names_in(inputs):
    return [name for name, _ in list_inputs(inputs).pairs]


# ---------------------------------------------------------------------- folders and lists


def test_hidden_files_are_left_out_and_linked_folders_are_read_once(frames, tmp_path):
    place = tmp_path / 'in'
    for folder in ('.ipynb_checkpoints', 'b'):
        (place / folder).mkdir(parents=True)
        shutil.copy(frames[0], place / folder / 'x.jpg')
    (place / '._a.jpg').write_bytes(b'\0\5\26\7')
    (tmp_path / 'elsewhere').mkdir()
    shutil.copy(frames[0], tmp_path / 'elsewhere/z.jpg')
    os.symlink(tmp_path / 'elsewhere', place / 'linked')
    os.symlink(place, place / 'b/loop')
    assert names_in(place) == ['b/x', 'linked/z']


def test_kinds_of_images_in_a_folder(inferencer, frames, tmp_path):
    image = mmcv.imread(frames[0])
    kinds = ('.avif', '.bmp', '.gif', '.jp2', '.png', '.webp')
    for kind in kinds:
        assert cv2.imwrite(str(tmp_path / f'{kind[1:]}{kind}'), image)
    (tmp_path / 'drawing.svg').write_text('<svg/>')
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.warns(UserWarning, match=r'images that end in \.svg are left out'):
        results = run(inferencer, tmp_path)
    assert [result.name for result in results] == [kind[1:] for kind in kinds]
    by_name = {result.name: result.image for result in results}
    assert (by_name['png'] == by_name['bmp']).all()


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_list_in_any_encoding(frames, tmp_path, encoding):
    for folder in ('drive 1', 'straße'):
        (tmp_path / folder).mkdir()
        shutil.copy(frames[0], tmp_path / folder / '0001.jpg')
    lines = ['drive 1/0001.jpg', '', f'{tmp_path}/straße/0001.jpg\r']
    (tmp_path / 'list.txt').write_bytes('\n'.join(lines).encode(encoding))
    assert names_in(tmp_path / 'list.txt') == ['drive 1/0001', 'straße/0001']


def test_lists_that_cannot_be_read(frames, tmp_path):
    for content, message in ((b'\n\n', 'found none'), (b'\x80\x81', 'wanted text')):
        (tmp_path / 'list.txt').write_bytes(content)
        with pytest.raises(ValueError, match=rf'list\.txt.*{message}'):
            list_inputs(tmp_path / 'list.txt')
    (tmp_path / 'list.txt').write_text('gone.jpg')
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        list_inputs(tmp_path / 'list.txt')
    with pytest.raises(FileNotFoundError, match=r'absent\.txt'):
        list_inputs(tmp_path / 'absent.txt')


def test_bad_files_are_noted_and_the_others_go_on(inferencer, frames, tmp_path):
    for name, content in (('a.jpg', b'no image'), ('c.jpg', b'')):
        (tmp_path / name).write_bytes(content)
    shutil.copy(frames[0], tmp_path / 'b.jpg')
    shutil.copy(frames[1], tmp_path / 'd.jpg')
    bad: list = []
    results = run(inferencer, tmp_path, batch_size=3, bad=bad)
    assert [result.name for result in results] == ['b', 'd']
    assert [name for name, _ in bad] == ['a', 'c']
    assert all(f'{name}.jpg' in error for name, error in bad)
    with pytest.raises(ValueError, match=r'a\.jpg'):
        run(inferencer, tmp_path)


# ---------------------------------------------------------------------- single files


def test_a_damaged_jpeg_is_named(inferencer, frames, tmp_path, capfd):
    content = bytearray(Path(frames[0]).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = b'\xff\x00' * 20
    (tmp_path / 'torn.jpg').write_bytes(content)
    with pytest.warns(UserWarning, match=r'torn\.jpg. is damaged: Corrupt JPEG'):
        run(inferencer, tmp_path / 'torn.jpg')
    assert 'Corrupt' not in capfd.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        run(inferencer, frames[0])


def test_twelve_bits_in_sixteen_are_told(inferencer, frames, tmp_path):
    image = mmcv.imread(frames[0]).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'dark.png'), image * 16)
    cv2.imwrite(str(tmp_path / 'full.png'), image * 257)
    with pytest.warns(UserWarning, match=r'dark\.png. is nearly black.*found \d+ at most'):
        run(inferencer, tmp_path / 'dark.png')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        (full,) = run(inferencer, tmp_path / 'full.png')
    assert np.abs(full.image.astype(int) - mmcv.imread(frames[0])[..., ::-1]).max() <= 1


def test_arrays_of_other_shapes_are_what_their_files_are(inferencer, frames, tmp_path):
    colour = mmcv.imread(frames[0])
    arrays = dict(
        grey=colour[..., 0], band=colour[..., :1], alpha=np.dstack([colour, colour[..., :1]])
    )
    for name, array in arrays.items():
        cv2.imwrite(str(tmp_path / f'{name}.png'), array)
        (from_file,) = run(inferencer, tmp_path / f'{name}.png')
        (from_array,) = run(inferencer, array)
        assert (from_file.image == from_array.image).all()
        assert (from_file.scores['opengan'] == from_array.scores['opengan']).all()
        assert from_array.picture.shape[2] == 3


@pytest.mark.filterwarnings('ignore:.*is (damaged|nearly black)')
def test_damaged_bytes_give_a_picture_or_an_error_that_names_the_file(inferencer, tmp_path):
    random = np.random.default_rng(0)
    image = cv2.GaussianBlur(random.integers(0, 255, (64, 64, 3), np.uint8), (5, 5), 2)
    for kind in ('avif', 'bmp', 'gif', 'jp2', 'jpg', 'png', 'ppm', 'tiff', 'webp'):
        path = tmp_path / f'torn.{kind}'
        assert cv2.imwrite(str(path), image)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        read, told = 0, []
        for i in range(40):
            length = random.integers(2, len(whole) + 1) if i % 4 == 0 else len(whole)
            content = whole[:length].copy()
            places = random.integers(0, length, i % 6)
            content[places] = random.integers(0, 256, len(places))
            path.write_bytes(content.tobytes())
            try:
                picture, _ = inferencer.reader.read('torn', str(path))
                read += picture.shape[2] == 3
            except ValueError as error:
                told.append(str(error))
        assert read + len(told) == 40
        assert read
        assert told
        assert all(f'torn.{kind}' in one for one in told)


# ---------------------------------------------------------------------- other networks


def network(tmp_path, channels=3, num_classes=11, **first_step):
    """(config, weights) of a small plain segmentor with other inputs or classes."""
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    model = Config(dict(model=PLAIN)).model
    model.backbone.in_channels = channels
    model.data_preprocessor.update(
        mean=[120.0] * channels, std=[60.0] * channels, bgr_to_rgb=channels == 3
    )
    model.decode_head.num_classes = num_classes
    weights = tmp_path / 'network.pth'
    torch.save(dict(state_dict=MODELS.build(model).state_dict()), weights)
    steps = [dict(type='LoadImageFromFile', **first_step), dict(type='PackSegInputs')]
    return Config(dict(model=model, test_pipeline=steps)), weights


def test_a_network_of_one_channel(frames, tmp_path):
    cfg, weights = network(tmp_path, channels=1, color_type='grayscale')
    made = OpenSetInferencer(cfg, weights, device='cpu')
    (from_file,) = run(made, frames[0])
    grey = cv2.imread(frames[0], cv2.IMREAD_GRAYSCALE)
    assert (from_file.image == grey[..., None]).all()  # the right way round
    (from_array,) = run(made, grey)
    assert (from_array.scores['msp'] == from_file.scores['msp']).all()


def test_a_network_of_four_bands(frames, tmp_path):
    cfg, weights = network(tmp_path, channels=4, color_type='unchanged')
    bands = np.dstack([mmcv.imread(frames[0]), np.full((64, 96), 200, np.uint8)])
    cv2.imwrite(str(tmp_path / 'bands.png'), bands)
    (result,) = run(OpenSetInferencer(cfg, weights, device='cpu'), tmp_path / 'bands.png')
    assert (result.image == bands[..., 2::-1]).all()


def test_the_picture_of_more_than_eight_bits():
    image = np.array([[[0, 0, 0], [1000, 4000, 2000]]], np.uint16)
    assert as_picture(image).tolist() == [[[0, 0, 0], [127, 255, 63]]]
    assert as_picture(image - np.float32(1)).tolist() == [[[0, 0, 0], [127, 255, 63]]]
    assert as_picture(np.float32([[[0, 0.25, 0.5]]])).tolist() == [[[255, 127, 0]]]
    assert as_picture(np.int16([[[0, 200, 100]]])).tolist() == [[[127, 255, 0]]]
    assert as_picture(np.float32([[[100, 121, 0]]])).tolist() == [[[0, 121, 100]]]


def test_a_pipeline_that_loads_floats_shows_the_file(frames, tmp_path):
    cfg, weights = network(tmp_path, to_float32=True)
    image = np.full((20, 30, 3), 100, np.uint8)
    image[0, 0] = 120
    cv2.imwrite(str(tmp_path / 'grey.png'), image)
    (result,) = run(OpenSetInferencer(cfg, weights, device='cpu'), tmp_path / 'grey.png')
    assert (result.image == image).all()


def test_more_than_256_classes_take_sixteen_bits(frames, tmp_path):
    cfg, weights = network(tmp_path, num_classes=300)
    state = torch.load(weights)
    state['state_dict']['decode_head.conv_seg.bias'][299] = 1e4
    torch.save(state, weights)
    made = OpenSetInferencer(cfg, weights, device='cpu')
    (files,) = run(
        made,
        frames[0],
        out_dir=tmp_path / 'out',
        threshold=-9.0,
        unknown_id=300,
    )
    for kind, value in (('labels', 299), ('unknown', 300)):
        stored = cv2.imread(str(files[kind]), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        assert (stored == value).all()
    assert (cv2.imread(str(files['colour'])) == 255).all()
    with pytest.raises(ValueError, match='unknown_id: wanted 300 to 65535'):
        run(made, frames[0], out_dir=tmp_path / 'out', threshold=0.5)


def test_weights_that_are_no_numbers_are_named(tiny, frames, tmp_path):
    cfg, weights = network(tmp_path)
    state = torch.load(weights)
    state['state_dict']['decode_head.conv_seg.weight'][0, 0] = torch.nan
    torch.save(state, weights)
    with pytest.raises(ValueError, match=r"network\.pth': wanted numbers.*conv_seg\.weight"):
        OpenSetInferencer(cfg, weights, device='cpu')
    state = torch.load(tiny[3])
    state['state_dict']['discriminator.layers.0.weight'][0, 0] = torch.nan
    torch.save(state, tmp_path / 'd.pth')
    with pytest.raises(ValueError, match=r"d\.pth': wanted numbers.*discriminator\.layers"):
        OpenSetInferencer(tiny[2], tmp_path / 'd.pth', device='cpu')


def test_scores_that_are_no_numbers_are_named(tiny, frames):
    made = OpenSetInferencer(tiny[2], tiny[3], device='cpu')
    made.model.discriminator.layers[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"'a': wanted numbers as scores, found NaN.*'opengan'"):
        run(made, frames[0])


def test_fewer_class_names_than_classes_are_told_at_the_start(tmp_path):
    cfg, weights = network(tmp_path)
    state = dict(torch.load(weights), meta=dict(CLASSES=('road', 'sky')))
    torch.save(state, weights)
    with pytest.raises(ValueError, match=r'wanted a name for each of the 11 classes.*road, sky'):
        OpenSetInferencer(cfg, weights, device='cpu')


def test_wrong_windows_are_told_at_the_start(tiny):
    for wrong in (
        dict(mode='slide', crop_size=(32, 32)),
        dict(mode='slide', crop_size=32, stride=16),
        dict(mode='slide', crop_size=(32, 32), stride=(64, 32)),
        dict(mode='tiles'),
    ):
        options = {'model.test_cfg': wrong}
        with pytest.raises(ValueError, match=r'model\.test_cfg.*wanted'):
            OpenSetInferencer(tiny[2], tiny[3], device='cpu', cfg_options=options)


def test_letters_that_the_font_lacks_are_told(frames, tmp_path):
    cfg, weights = network(tmp_path)
    torch.save(dict(torch.load(weights), meta=dict(CLASSES=['道路'] * 11)), weights)
    made = OpenSetInferencer(cfg, weights, device='cpu')
    with pytest.warns(UserWarning, match='路.*cannot draw.*font='):
        run(made, frames[0])[0].picture  # noqa: B018
    torch.save(dict(torch.load(weights), meta=dict(CLASSES=['road'] * 11)), weights)
    bold = Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans-Bold.ttf')
    pictures = []
    for font in (None, bold):
        (result,) = run(OpenSetInferencer(cfg, weights, device='cpu', font=font), frames[0])
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            pictures.append(result.picture)
    assert (pictures[0] != pictures[1]).any()
    made = OpenSetInferencer(cfg, weights, device='cpu', font=tmp_path / 'absent.ttf')
    with pytest.raises(ValueError, match=r'font: wanted a \.ttf or \.otf file'):
        run(made, frames[0])[0].picture  # noqa: B018
    tiles = [(name, np.zeros((20, 30, 3), np.uint8)) for name in ('1 街.jpg', '2 街.jpg')]
    with pytest.warns(UserWarning, match='街.*cannot draw.*--font') as told:
        contact_sheet(tiles)
    assert len(told) == 1


def test_mmsegs_own_inferencer(tiny, frames):
    from mmseg.apis import MMSegInferencer

    cfg = Config.fromfile(tiny[2])
    cfg.model.segmentor.checkpoint = str(tiny[4])
    found = MMSegInferencer(cfg, str(tiny[3]), device='cpu')(frames[0])['predictions']
    assert (found == run(OpenSetInferencer(cfg, tiny[3], device='cpu'), frames[0])[0].labels).all()
