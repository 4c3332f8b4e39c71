# Cityscapes with the paper's split: 2,965 training images, the last 10 for open validation, the 500
# val images as test.
data_root = '{{$CITYSCAPES_ROOT:data/cityscapes}}'
# which label ids are closed, open, void: 'paper', 'strict' or 'all', see docs/label_policies.md
train_policy = 'paper'
test_policy = 'paper'
feature_bank = 'work_dirs/feature_banks/cityscapes'
num_open_images = None  # 10 ... 2,900 in the paper's Figure 5; None takes all 2,965

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
test_pipeline = pipeline  # mmseg's inference_model reads it
closed_train = dict(
    type='CityscapesOpenSet',
    data_root=data_root,
    split='train',
    policy=train_policy,
    pipeline=pipeline,
)
open_train = dict(
    type='CityscapesOpenSet',
    data_root=data_root,
    split='train',
    policy=train_policy,
    num_open_images=num_open_images,
    pipeline=pipeline,
)

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
        closed_per_image=5000,
        sampler=dict(
            type='PixelSampler',
            num_closed=5000,
            num_open=2500,
            num_fake=2500,
            closed_images_per_batch=1,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CityscapesOpenSet',
        data_root=data_root,
        split='open_val',
        policy=test_policy,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='CityscapesOpenSet',
        data_root=data_root,
        split='test',
        policy=test_policy,
        pipeline=pipeline,
    ),
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
