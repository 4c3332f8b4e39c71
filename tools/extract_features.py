"""Build the feature bank of a training config beforehand. Training does it on first use; this does it alone."""

import argparse

from mmengine.config import Config, DictAction

from mmseg_opengan import compat, experiment
from mmseg_opengan.datasets.feature_bank import FeatureBank


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='training config')
    parser.add_argument('--work-dir', default='work_dirs/extract_features', help='folder for the log')
    parser.add_argument('--verify', action='store_true', help='compare the bank in place with its checksums instead')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value')
    args = parser.parse_args()
    compat.install()
    cfg = Config.fromfile(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.verify:
        bank = FeatureBank(cfg.train_dataloader.dataset.root)
        bank.verify()
        print(f"'{bank.root}': {len(bank.manifest['shards'])} shards, every byte as it was written")
        return
    cfg.work_dir = args.work_dir
    experiment.build_bank(cfg)


if __name__ == '__main__':
    main()
