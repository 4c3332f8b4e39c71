# HRNet-(K+1): the whole network, fine-tuned with open as a 12th class. Ordinary MMSegmentation;
# test with kplus1_hr18s_camvid.py. It starts from the closed segmentor, whose classifier of 11
# classes is not loaded.
_base_ = './kplus1_hr18s_camvid.py'
load_from = '{{$CAMVID_SEGMENTOR:weights/hrnet18s_camvid.pth}}'
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        size=(288, 384),
        pad_val=0,
        seg_pad_val=255,
        bgr_to_rgb=True,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone={{_base_.model.segmentor.config.model.backbone}},
    decode_head={{_base_.model.segmentor.config.model.decode_head}},
    test_cfg=dict(mode='whole'),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='OpenAsClass', class_id=11),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(288, 384)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CamVidOpenSet',
        data_root={{_base_.data_root}},
        split='closed_train',
        pipeline=train_pipeline,
    ),
)
val_dataloader, val_cfg, val_evaluator = None, None, None
test_evaluator = dict(_delete_=True, type='IoUMetric')

max_iters = 300
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01)
)
param_scheduler = dict(
    type='OneCycleLR', eta_max=1e-3, total_steps=max_iters, pct_start=0.1, by_epoch=False
)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        _delete_=True,
        type='CheckpointHook',
        by_epoch=False,
        interval=max_iters,
        filename_tmpl='segmentor.pth',
        save_optimizer=False,
        save_param_scheduler=False,
    ),
)
custom_hooks = []
model_wrapper_cfg = None
