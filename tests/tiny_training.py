"""A whole training configuration of a few steps on the tiny Cityscapes."""

import logging

from mmengine.config import Config
from mmengine.runner import Runner
from tiny_cityscapes import MODEL, images, source_config, write_images, write_segmentor

STEPS, INTERVAL = 6, 3


def write_root(folder):
    """The folder that :func:`config` takes as ``root``, with its images and a segmentor."""
    for kind, number in (('train', 7), ('val', 3)):
        write_images(folder / 'world', number, folder=kind)
    write_segmentor(folder / 'segmentor.pth')
    return folder


def config(root, work_dir, **options):
    """A whole configuration of few steps; ``options`` are dotted overrides."""
    network = dict(optimizer=dict(type='Adam', lr=1e-2))
    loader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    )
    cfg = Config(
        dict(
            default_scope='mmseg',
            work_dir=str(work_dir),
            model=dict(
                MODEL, segmentor=dict(MODEL['segmentor'], checkpoint=str(root / 'segmentor.pth'))
            ),
            train_dataloader=dict(
                loader,
                sampler=dict(type='StepSampler'),
                collate_fn=dict(type='one_step'),
                dataset=source_config(root / 'world', work_dir.parent / 'bank'),
            ),
            val_dataloader=dict(loader, dataset=images(root / 'world', split='open_val')),
            test_dataloader=dict(loader, dataset=images(root / 'world', split='test')),
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='OpenGANOptimWrapperConstructor',
                discriminator=network,
                generator=network,
            ),
            train_cfg=dict(
                type='IterBasedTrainLoop',
                max_iters=STEPS,
                val_interval=INTERVAL,
            ),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            val_evaluator=dict(type='OpenSetMetric'),
            test_evaluator=dict(type='OpenSetMetric'),
            default_hooks=dict(
                logger=dict(
                    type='LoggerHook',
                    interval=2,
                    log_metric_by_epoch=False,
                ),
                checkpoint=dict(
                    type='WholeCheckpointHook',
                    by_epoch=False,
                    interval=INTERVAL,
                    save_best='opengan/AUROC',
                    rule='greater',
                ),
            ),
            custom_hooks=[dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook')],
            visualizer=dict(
                type='SegLocalVisualizer',
                vis_backends=[dict(type='LocalVisBackend')],
                name=f'visualizer of {work_dir}',
            ),
            log_processor=dict(by_epoch=False),
            log_level='ERROR',
            randomness=dict(seed=3),
            experiment_name=f'{work_dir}'.replace('/', '_'),
        )
    )
    cfg.merge_from_dict(options)
    return cfg


def runner(*args, **options):
    made = Runner.from_cfg(config(*args, **options))
    made.logger.setLevel(logging.ERROR)
    return made
