# The closed segmentor of the demo: plain mmseg, from scratch, on the 19 closed classes of the
# street world.
_base_ = ['./hr_small.py', '../_base_/default_runtime.py']
output = '{{$DEMO_OUTPUT:demo_output}}'
work_dir = f'{output}/closed'
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    test_cfg=dict(mode='whole'),
    data_preprocessor={{_base_.model.segmentor.config.model.data_preprocessor}},
    backbone={{_base_.model.segmentor.config.model.backbone}},
    decode_head={{_base_.model.segmentor.config.model.decode_head}},
)

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='RandomResize', scale=(512, 256), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(192, 256)),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='SegRescale', scale_factor=0.25
    ),  # the loss on the grid of the features: a fifth of the time saved
    dict(type='PackOpenSetInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CityscapesOpenSet',
        data_root=f'{output}/world',
        split='train',
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CityscapesOpenSet', data_root=f'{output}/world', split='test', pipeline=pipeline
    ),
)
test_evaluator = dict(_delete_=True, type='IoUMetric')
val_cfg, val_evaluator = None, None

max_iters = 450
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01, fused=True)
)
param_scheduler = dict(
    type='OneCycleLR', eta_max=3e-3, total_steps=max_iters, pct_start=0.1, by_epoch=False
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(
    checkpoint=dict(
        _delete_=True,
        type='CheckpointHook',
        by_epoch=False,
        interval=max_iters,
        filename_tmpl='segmentor.pth',
        save_optimizer=False,
        save_param_scheduler=False,
    )
)
custom_hooks = []
model_wrapper_cfg = None
