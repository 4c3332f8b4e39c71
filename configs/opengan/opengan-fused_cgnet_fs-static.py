# OpenGAN on a Cityscapes CGNet, fused with a free score. Cityscapes images with pasted objects
# (Fishyscapes Static, 30 images) train and choose: the first 15 give closed and open pixels, the
# next 5 are open validation. The test set is ROAD_ANOMALY_TEST; of Fishyscapes Static the last 10.
_base_ = [
    '../_base_/models/open_cgnet.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
data_root = '{{$ROAD_ANOMALY_ROOT:data/road_anomaly}}'
test_set = '{{$ROAD_ANOMALY_TEST:RoadAnomaly21}}'
model = dict(
    segmentor=dict(checkpoint='{{$CGNET_WEIGHTS:weights/cgnet_cityscapes.pth}}'),
    discriminator=dict(type='FeatureDiscriminator'),
    generator=dict(type='FeatureGenerator', out_act='auto'),
    lambda_open=1.0,
    lambda_fake=0.05,
    fuse=dict(free=dict(type='ReAct', quantile=0.9, per='channel'), weight=0.5),
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
    resolution='feature',
)
train_cfg = dict(max_iters=500, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=500, save_best='hybrid/AUROC'))

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
fs_static = dict(type='AnomalyMasks', data_root=f'{data_root}/fs_static', pipeline=pipeline)
train_images = dict(fs_static, indices=list(range(15)))
sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='StepSampler'),
    collate_fn=dict(type='one_step'),
    dataset=dict(
        type='StoreSource',
        root='work_dirs/feature_banks/cgnet_fs-static_15',
        closed=train_images,
        open=train_images,
        closed_per_image=5000,
        sampler=dict(
            type='PixelSampler',
            num_closed=5000,
            num_open=2500,
            num_fake=2500,
            closed_images_per_batch='all',
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=sampler,
    dataset=dict(fs_static, indices=list(range(15, 20))),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=sampler,
    dataset=dict(
        type='AnomalyMasks',
        data_root=f'{data_root}/{test_set}',
        pipeline=pipeline,
        indices=list(range(20, 30)) if test_set == 'fs_static' else None,
    ),
)
val_evaluator = dict(closed=False)  # the classes of closed pixels are not known
test_evaluator = dict(closed=False)
