# CamVid, 11 closed groups, rare kinds open. Split files: see docs/datasets.md.
data_root = '{{$CAMVID_ROOT:data/camvid}}'
feature_bank = 'work_dirs/feature_banks/camvid'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
test_pipeline = pipeline  # mmseg's inference_model reads it
closed_train = dict(
    type='CamVidOpenSet', data_root=data_root, split='closed_train', pipeline=pipeline
)
open_train = dict(type='CamVidOpenSet', data_root=data_root, split='open_train', pipeline=pipeline)

train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='StepSampler'),
    collate_fn=dict(type='one_step'),
    dataset=dict(
        type='StoreSource',
        root=feature_bank,
        closed=closed_train,
        open=open_train,
        closed_per_image=2000,
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
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='CamVidOpenSet', data_root=data_root, split='open_val', pipeline=pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='CamVidOpenSet', data_root=data_root, split='test', pipeline=pipeline),
)
# tools/test.py --tta; it needs model.resolution='image'. Labels stay as they are, so they are
# loaded last.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale_factor=factor, keep_ratio=True)
                for factor in (0.75, 1.0, 1.25)
            ],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadOpenSetAnnotations')],
            [dict(type='PackOpenSetInputs')],
        ],
    ),
]
