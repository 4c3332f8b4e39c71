"""Fit the scorers of a config on the feature bank. Where a scorer has several candidates of its
options, choose them on the open-validation images.

    python tools/fit_scorers.py CONFIG --out work_dirs/scorers_hr18s_camvid

The config looks for them in that folder (its 'fitted').
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan import compat
from mmseg_opengan.shipped import read_config_file


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', required=True, help='folder for NAME.pth and fitting.json')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    compat.install()
    from mmseg_opengan.experiments.scorer_fitting import fit_scorers

    cfg = read_config_file(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    for name, found in fit_scorers(cfg, out=args.out).items():
        if found['AUROC'] is None:
            print(f'{name}: nothing to choose, {found["options"]}')
        else:
            print(f'{name}: open-validation AUROC {found["AUROC"]:.4f} with {found["options"]}')


if __name__ == '__main__':
    main()
