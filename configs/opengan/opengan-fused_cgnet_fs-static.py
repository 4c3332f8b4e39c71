# OpenGAN on a Cityscapes CGNet, fused with a free score. Cityscapes images with pasted objects
# (Fishyscapes Static, 30 images) train and choose: the first 15 give closed and open pixels, the
# next 5 are open validation. The test set is ROAD_ANOMALY_TEST; of Fishyscapes Static the last 10.
_base_ = [
    '../_base_/models/open_cgnet.py',
    '../_base_/datasets/road_anomaly.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
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

train_images = dict(indices=list(range(15)))
train_dataloader = dict(
    dataset=dict(
        root='work_dirs/feature_banks/cgnet_fs-static_15',
        closed=train_images,
        open=dict(
            _delete_=True,
            type='AnomalyMasks',
            data_root={{_base_.fs_static.data_root}},
            pipeline={{_base_.pipeline}},
            **train_images,
        ),
        closed_per_image=5000,
        sampler=dict(num_open=2500, num_fake=2500, closed_images_per_batch='all'),
    )
)
val_dataloader = dict(dataset=dict(indices=list(range(15, 20))))
test_images = list(range(20, 30)) if '{{$ROAD_ANOMALY_TEST:RoadAnomaly21}}' == 'fs_static' else None
test_dataloader = dict(dataset=dict(indices=test_images))
val_evaluator = dict(closed=False)  # the classes of closed pixels are not known
test_evaluator = dict(closed=False)
