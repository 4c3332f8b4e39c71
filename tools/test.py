"""Test a checkpoint of D (and G).

Takes the arguments of MMSegmentation's tools/test.py, but for --show and --wait-time, and a
threshold.
"""

import argparse
import os

from mmengine.config import DictAction
from mmengine.runner import Runner

from mmseg_opengan import compat
from mmseg_opengan.cli import one_checkpoint
from mmseg_opengan.engine.launch import start_processes
from mmseg_opengan.evaluation.protocol import PROTOCOLS, use_protocol
from mmseg_opengan.shipped import read_config_file


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='*',
        help='checkpoint that training wrote (not needed where model.discriminator is None and '
        'model.segmentor has its weights)',
    )
    parser.add_argument(
        '--threshold',
        help='operating point: a raw score, or a rule that is resolved on the open '
        "validation set: 'fpr=0.05', 'tpr=0.95', 'f1', 'macro_f1'",
    )
    parser.add_argument(
        '--components',
        choices=['anomaly', 'obstacle'],
        help='count components too, of that SegmentMeIfYouCan track, at --threshold',
    )
    parser.add_argument('--protocol', choices=list(PROTOCOLS), help='evaluate by a named protocol')
    parser.add_argument(
        '--segmentor',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help="your MMSegmentation config and its weights, in place of the config's",
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="average over the versions of each image that the config's "
        "tta_pipeline makes (model.resolution='image')",
    )
    parser.add_argument(
        '--work-dir', help='folder for metrics.json and figures (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--out', help='folder for closed predictions (.png) and raw open-set scores (.npy)'
    )
    parser.add_argument('--show-dir', help='folder for pictures of the score maps')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    args.checkpoint = one_checkpoint(parser, args.checkpoint)
    return args


def main():
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    compat.install()
    from mmseg_opengan.inference.config import find_segmentor

    cfg = read_config_file(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.segmentor is not None:
        cfg.model.segmentor = dict(zip(('config', 'checkpoint'), args.segmentor))
    start_processes(cfg)
    if args.checkpoint is not None:
        find_segmentor(cfg, args.checkpoint)
    cfg.work_dir = (
        args.work_dir
        or cfg.get('work_dir')
        or os.path.join('work_dirs', os.path.splitext(os.path.basename(args.config))[0])
    )
    cfg.load_from = args.checkpoint
    for name, value in (
        ('output_dir', args.out),
        ('threshold', args.threshold),
        ('components', args.components),
    ):
        if value is not None:
            cfg.test_evaluator[name] = value
    if args.protocol is not None:
        use_protocol(cfg, args.protocol)
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)
    if args.show_dir is not None:
        cfg.default_hooks.setdefault('visualization', dict(type='SegVisualizationHook')).draw = True
        cfg.default_hooks.visualization.setdefault('interval', 1)
        cfg.visualizer.save_dir = args.show_dir
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    main()
