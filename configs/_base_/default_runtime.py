custom_imports = dict(imports=['mmseg_opengan.register'], allow_failed_imports=False)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# D and G are direct children of the model: each gets its own distributed wrapper.
model_wrapper_cfg = dict(type='MMSeparateDistributedDataParallel', broadcast_buffers=True)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='OpenSetVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Model selection is half of the method: keep the D that open validation picks.
    checkpoint=dict(
        type='WholeCheckpointHook',
        by_epoch=False,
        interval=1000,
        max_keep_ckpts=1,
        save_best='opengan/AUROC',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook', interval=1),
)  # draws where --show-dir asks for it
custom_hooks = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook')]

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='OpenSetMetric')
test_evaluator = dict(type='OpenSetMetric')
tta_model = dict(type='OpenSetTTAModel')  # tools/test.py --tta averages score maps
