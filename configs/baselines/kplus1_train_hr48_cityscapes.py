# HRNet-(K+1): the whole network, fine-tuned from the closed segmentor with open as a 20th class;
# the paper trains it "ground-up", for which set load_from=None and ImageNet weights. Ordinary
# MMSegmentation; test with kplus1_hr48_cityscapes.py. SGD, crops and steps as in mmseg's 40k
# schedule of FCN-HRNet, 8 images a step in all, 2 a GPU. On several GPUs that schedule has
# norm_cfg.type=SyncBN in backbone and head.
_base_ = './kplus1_hr48_cityscapes.py'
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/hrnet/fcn_hr48_512x1024_160k_cityscapes/fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e.pth'
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        size=(512, 1024),
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
    dict(type='OpenAsClass', class_id=19),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 1024), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CityscapesOpenSet',
        data_root={{_base_.data_root}},
        split='train',
        policy={{_base_.train_policy}},
        pipeline=train_pipeline,
    ),
)
val_dataloader, val_cfg, val_evaluator = None, None, None
test_evaluator = dict(_delete_=True, type='IoUMetric')

max_iters = 40000
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005),
)
param_scheduler = dict(
    type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=max_iters, by_epoch=False
)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(  # one file, to resume from too
        _delete_=True,
        type='CheckpointHook',
        by_epoch=False,
        interval=2000,
        filename_tmpl='segmentor.pth',
    ),
)
custom_hooks = []
model_wrapper_cfg = None
