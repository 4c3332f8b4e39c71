import shutil

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from tiny_camvid import SIZES, write_checkpoints

from mmseg_opengan.contracts import OPENGAN
from mmseg_opengan.inference.inferencer import OpenSetInferencer
from mmseg_opengan.inference.results import OpenSetResult


def run(inferencer, inputs, **options):
    return inferencer(inputs, show_progress=False, **options)


def same(a: OpenSetResult, b: OpenSetResult, exact=True):
    """Whether two results say the same of one image."""
    equal = np.array_equal if exact else lambda x, y: np.allclose(x, y, atol=1e-4)
    return (
        np.array_equal(a.image, b.image)
        and (a.labels != b.labels).mean() < 0.01 * (not exact) + 1e-9
        and a.scores.keys() == b.scores.keys()
        and all(equal(a.scores[name], b.scores[name]) for name in a.scores)
    )


def picture_in(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


# ---------------------------------------------------------------------- inputs


def test_one_image(inferencer, frames):
    (result,) = run(inferencer, frames[0])
    assert result.name == 'a'
    assert result.labels.shape == SIZES['a']
    assert result.labels.dtype == np.uint8
    assert result.labels.max() < 11
    assert list(result.scores) == ['entropy', 'msp', OPENGAN]
    for score in result.scores.values():
        assert score.shape == SIZES['a']
        assert score.dtype == np.float32
        assert score.std() > 0
    assert result.picture.shape[1:] == (1200, 3)
    assert (result.image == mmcv.imread(frames[0], channel_order='rgb')).all()


def test_an_array_is_bgr_and_gives_what_its_file_gives(inferencer, frames):
    (from_file,), (from_array,) = (
        run(inferencer, frames[0]),
        run(inferencer, mmcv.imread(frames[0])),
    )
    assert from_array.name == '00000000'
    assert same(from_file, from_array)
    assert not same(from_file, run(inferencer, mmcv.imread(frames[0], channel_order='rgb'))[0])


def test_batches_of_different_sizes_give_what_single_images_give(inferencer, frames):
    batch_size = 3
    alone = [run(inferencer, frame)[0] for frame in frames]
    together = run(inferencer, frames, batch_size=batch_size)
    assert [result.name for result in together] == list(SIZES)
    assert all(same(a, b, exact=False) for a, b in zip(alone, together))
    arrays = run(inferencer, [mmcv.imread(frame) for frame in frames], batch_size=batch_size)
    assert [result.name for result in arrays] == [f'{i:08d}' for i in range(4)]
    assert all(same(a, b) for a, b in zip(together, arrays))


def test_a_folder_gives_its_images_in_order_below_their_folders(inferencer, frames, tmp_path):
    (tmp_path / 'in/b').mkdir(parents=True)
    for i, name in enumerate(('in/z.jpg', 'in/b/a.JPG', 'in/b/z.jpg')):
        shutil.copy(frames[i], tmp_path / name)
    (tmp_path / 'in/readme.txt').write_text('no image')
    results = run(inferencer, tmp_path / 'in')
    assert [result.name for result in results] == ['b/a', 'b/z', 'z']
    files = run(inferencer, str(tmp_path / 'in'), out_dir=tmp_path / 'out')
    assert [each['labels'].relative_to(tmp_path).as_posix() for each in files] == [
        'out/b/a.png',
        'out/b/z.png',
        'out/z.png',
    ]


def test_a_video_gives_its_frames(inferencer, frames, tmp_path):
    video = tmp_path / 'drive.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 10, (96, 64))
    for i in range(5):
        writer.write(np.roll(mmcv.imread(frames[0]), 9 * i, axis=1))
    writer.release()
    results = run(inferencer, video, batch_size=2)
    assert [result.name for result in results] == [f'drive_{i:06d}' for i in range(5)]
    capture = cv2.VideoCapture(str(video))
    for result in results:
        assert (result.image == capture.read()[1][..., ::-1]).all()
    assert same(run(inferencer, results[3].image[..., ::-1].copy())[0], results[3], exact=False)
    assert len(run(inferencer, str(video), limit=3)) == 3


def test_a_dataset_brings_its_ground_truth(inferencer, frames):
    results = run(inferencer, inferencer.dataset('test'), batch_size=2)
    plain = run(inferencer, frames, batch_size=2)
    assert all(same(a, b) for a, b in zip(results, plain))
    assert [result.panel['gt'].shape for result in results] == list(SIZES.values())
    assert results[0].panel['open_map'].max() > 0
    assert plain[0].panel['gt'] is None
    assert not np.array_equal(results[0].picture, plain[0].picture)
    assert [result.name for result in run(inferencer, inferencer.dataset('open_val'))] == ['a']


def test_results_come_one_batch_at_a_time(inferencer, frames, monkeypatch):
    read = []
    whole = inferencer.reader.read
    monkeypatch.setattr(
        inferencer.reader,
        'read',
        lambda name, source: read.append(name) or whole(name, source),
    )
    stream = inferencer.stream(frames, batch_size=2)
    assert read == []
    assert next(stream).name == 'a'
    assert read == ['a', 'b']
    assert [result.name for result in stream] == ['b', 'c', 'd']
    assert [result.name for result in inferencer.stream(frames, limit=2, batch_size=5)] == [
        'a',
        'b',
    ]


def test_progress_goes_to_stderr(inferencer, frames, capsys):
    inferencer(frames[:2])
    assert '2/2' in capsys.readouterr().err
    run(inferencer, frames[:2])
    assert capsys.readouterr().err == ''


# ---------------------------------------------------------------------- options


def test_feature_resolution_keeps_the_grid(tiny, inferencer, frames):
    coarse = OpenSetInferencer(
        tiny[2], tiny[3], device='cpu', cfg_options={'model.resolution': 'feature'}
    )
    (result,) = run(coarse, frames[0])
    assert {score.shape for score in result.scores.values()} == {(16, 24)}
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(result.scores[OPENGAN])[None, None], SIZES['a'], mode='bilinear'
    )[0, 0].numpy()
    assert np.allclose(resized, run(inferencer, frames[0])[0].scores[OPENGAN], atol=1e-5)


def test_results_have_the_original_size_where_the_pipeline_resizes(tiny, frames):
    config = Config.fromfile(tiny[2])
    config.test_dataloader.dataset.pipeline.insert(
        1, dict(type='Resize', scale=(48, 32), keep_ratio=False)
    )
    before = config.pretty_text
    resizing = OpenSetInferencer(config, tiny[3], device='cpu')
    assert config.pretty_text == before
    for result, size in zip(run(resizing, frames, batch_size=4), SIZES.values()):
        assert result.image.shape[:2] == result.labels.shape == result.scores[OPENGAN].shape == size


def test_sliding_windows(tiny, frames):
    sliding = OpenSetInferencer(
        tiny[2],
        tiny[3],
        device='cpu',
        cfg_options={
            'model.test_cfg': dict(
                mode='slide',
                crop_size=(32, 32),
                stride=(16, 16),
            )
        },
    )
    assert run(sliding, frames[0])[0].scores[OPENGAN].shape == SIZES['a']


# ---------------------------------------------------------------------- errors


def test_errors_name_the_file(inferencer, frames, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.jpg').write_text('no image')
    (tmp_path / 'zero.jpg').touch()
    (tmp_path / 'text.mp4').write_text('no video')
    (tmp_path / 'twice').mkdir()
    shutil.copy(frames[0], tmp_path / 'twice/a.jpg')
    shutil.copy(frames[0], tmp_path / 'twice/a.jpeg')
    for bad, error, message in (
        ('absent.jpg', FileNotFoundError, r'absent\.jpg'),
        ('absent.mp4', FileNotFoundError, r'absent\.mp4'),
        ('text.jpg', ValueError, r'text\.jpg.*8 bytes'),
        ('zero.jpg', ValueError, r'zero\.jpg.*0 bytes'),
        ('text.mp4', ValueError, r'text\.mp4.*codec'),
        ('empty', ValueError, 'empty.*no images'),
        ('twice', ValueError, "'a' twice"),
    ):
        with pytest.raises(error, match=message):
            run(inferencer, tmp_path / bad)
    with pytest.raises(FileNotFoundError, match=r'absent\.jpg'):  # before the first image is read
        inferencer.stream([frames[0], tmp_path / 'absent.jpg'])


@pytest.mark.parametrize(
    ('inputs', 'error', 'message'),
    [
        ([], ValueError, 'empty list'),
        (7, TypeError, 'int'),
        ([None], TypeError, 'NoneType'),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r'\(4, 4, 2\)'),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r'\(2, 4, 4, 3\)'),
        (np.zeros((4, 4, 3)), ValueError, 'float64'),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r'\(0, 4, 3\)'),
    ],
)
def test_wrong_inputs(inferencer, inputs, error, message):
    with pytest.raises(error, match=message):
        run(inferencer, inputs)


def test_wrong_options(inferencer, frames):
    with pytest.raises(ValueError, match=r"'msp'.*'energy'"):
        run(inferencer, frames[0], scorers=['energy'])
    for name in ('batch_size', 'limit'):
        with pytest.raises(ValueError, match=name):
            run(inferencer, frames[0], **{name: 0})
    with pytest.raises(ValueError, match='train'):
        inferencer.dataset('train')


def test_outputs_never_lie_among_inputs(inferencer, tiny, frames, tmp_path):
    val = tiny[1] / 'val'
    for inputs, out_dir in ((val, val), (val, val / 'out'), (frames[0], val), (frames, val)):
        with pytest.raises(ValueError, match='out_dir'):
            run(inferencer, inputs, out_dir=out_dir)
    assert sorted(path.name for path in val.iterdir()) == [f'{name}.jpg' for name in SIZES]


# ---------------------------------------------------------------------- weights


def test_a_random_or_partial_discriminator_is_refused(tiny, frames, tmp_path):
    _, _, config, trained, segmentor = tiny
    with pytest.raises(RuntimeError, match='holds no discriminator'):
        OpenSetInferencer(config, segmentor, device='cpu')
    others = OpenSetInferencer(
        config, segmentor, device='cpu', cfg_options={'model.discriminator': None}
    )
    assert list(run(others, frames[0])[0].scores) == ['entropy', 'msp']
    checkpoint = torch.load(trained)
    name = next(name for name in checkpoint['state_dict'] if name.startswith('discriminator.'))
    del checkpoint['state_dict'][name]
    torch.save(checkpoint, tmp_path / 'partial.pth')
    with pytest.raises(RuntimeError, match=r'missing in the checkpoint: layers\.0\.weight'):
        OpenSetInferencer(config, tmp_path / 'partial.pth', device='cpu')


def test_the_segmentor_must_be_the_one_that_d_was_trained_on(tiny, inferencer, frames, tmp_path):
    _, _, config, trained, segmentor = tiny
    gone = {'model.segmentor.checkpoint': str(tmp_path / 'gone.pth')}
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        OpenSetInferencer(config, trained, device='cpu', cfg_options=gone)
    found = OpenSetInferencer(
        config, trained, device='cpu', cfg_options=gone, segmentor_checkpoint=segmentor
    )
    assert same(run(found, frames[0])[0], run(inferencer, frames[0])[0])
    other = write_checkpoints(tmp_path, config, seed=1)[1]
    with pytest.raises(RuntimeError, match='another segmentor'):
        OpenSetInferencer(config, trained, device='cpu', segmentor_checkpoint=other)


def test_wrong_configs_and_missing_files(tiny):
    _, _, config, trained, _ = tiny
    with pytest.raises(FileNotFoundError, match=r'absent\.py'):
        OpenSetInferencer('absent.py', trained)
    with pytest.raises(FileNotFoundError, match=r'absent\.pth'):
        OpenSetInferencer(config, 'absent.pth')
    plain = Config.fromfile(config)
    plain.test_dataloader.dataset.pipeline.pop(0)
    with pytest.raises(ValueError, match='LoadImageFromFile'):
        OpenSetInferencer(plain, trained)


# ---------------------------------------------------------------------- real data


def test_camvid_scores_are_those_of_the_test_loop(shared, monkeypatch, tmp_path):
    monkeypatch.setenv('CAMVID_ROOT', str(shared / 'data/camvid'))
    monkeypatch.setenv('CAMVID_SEGMENTOR', str(shared / 'weights/hrnet18s_camvid.pth'))
    cfg = Config.fromfile('configs/opengan/opengan_hr18s_camvid.py')
    cfg.merge_from_dict(
        {
            'model.resolution': 'image',
            'work_dir': str(tmp_path / 'work'),
            'test_dataloader.dataset.indices': 2,
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'test_evaluator.output_dir': str(tmp_path / 'a'),
            'visualizer.name': 'camvid test loop',
            'visualizer.save_dir': str(tmp_path / 'shown'),
            'default_hooks.visualization': dict(
                type='SegVisualizationHook',
                draw=True,
                interval=1,
            ),
        }
    )
    cfg.load_from = str(_camvid_discriminator(cfg, tmp_path))
    Runner.from_cfg(cfg).test()

    inferencer = OpenSetInferencer(cfg, cfg.load_from)  # on the test loop's device
    images = [inferencer.dataset('test').get_data_info(i)['img_path'] for i in range(2)]
    files = run(inferencer, images, out_dir=tmp_path / 'b')
    for each in files:
        for kind in ('labels', 'msp.npy', 'opengan.npy'):
            ours, theirs = each[kind], tmp_path / 'a' / each[kind].name
            read = np.load if kind.endswith('npy') else picture_in
            assert np.array_equal(read(ours), read(theirs)), kind
    shown = sorted((tmp_path / 'shown').rglob('test_*.jpg_*.png'))
    (first,) = run(inferencer, inferencer.dataset('test'), limit=1)
    assert len(shown) == 2
    assert np.array_equal(
        picture_in(shown[0]), first.picture
    )  # mmseg's own hook draws the same panel


def _camvid_discriminator(cfg, folder):
    """A checkpoint of an untrained D on the real segmentor."""
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.check_segmentor()
    checkpoint = dict(state_dict=model.state_dict(), meta={})
    model.lean_checkpoint(checkpoint)
    torch.save(checkpoint, folder / 'd.pth')
    return folder / 'd.pth'


@pytest.mark.parametrize('kind', ['ConcatDataset', 'RepeatDataset'])
def test_wrapped_data_sets_are_named(tiny, kind):
    _, _, config, trained, segmentor = tiny
    inferencer = OpenSetInferencer(
        config, trained, device='cpu', segmentor_checkpoint=str(segmentor)
    )
    one = inferencer.cfg.test_dataloader.dataset
    wrapped = dict(datasets=[one, one]) if kind == 'ConcatDataset' else dict(dataset=one)
    inferencer.cfg.test_dataloader.dataset = dict(type=kind, **wrapped)
    with pytest.raises(TypeError, match=rf'test_dataloader.dataset: wanted one .* found {kind}'):
        inferencer.dataset('test')
