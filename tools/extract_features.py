"""Build the feature bank of a training config beforehand, alone or in parts. Training does it on
first use.
"""

import argparse

from mmengine.config import DictAction

from mmseg_opengan import compat
from mmseg_opengan.experiments import jobs as experiment
from mmseg_opengan.features.bank import FeatureBank
from mmseg_opengan.shipped import read_config_file


def _part(text):
    try:
        number, parts = map(int, text.split('/'))
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted I/N, such as 2/8, found '{text}'") from None
    return number, parts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument(
        '--work-dir', default='work_dirs/extract_features', help='folder for the log'
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '--part',
        metavar='I/N',
        type=_part,
        help='only the I-th of N parts, in a folder beside the bank',
    )
    how.add_argument('--join', metavar='N', type=int, help='make the bank of its N parts')
    how.add_argument(
        '--verify', action='store_true', help='compare the bank in place with its checksums instead'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )
    args = parser.parse_args()
    compat.install()
    cfg = read_config_file(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.verify:
        bank = FeatureBank(cfg.train_dataloader.dataset.root)
        bank.verify()
        print(f"'{bank.root}': {len(bank.manifest['shards'])} shards, every byte as it was written")
        return
    cfg.work_dir = args.work_dir
    if args.part is not None:
        cfg.work_dir += '/part-{}-of-{}'.format(*args.part)
    experiment.build_bank(
        cfg,
        **{
            key: value
            for key, value in (('part', args.part), ('join', args.join))
            if value is not None
        },
    )


if __name__ == '__main__':
    main()
