# Fishyscapes Static, Cityscapes images with pasted objects, to fit and to choose on; RoadAnomaly21,
# or the set that ROAD_ANOMALY_TEST names, to test on.
data_root = '{{$ROAD_ANOMALY_ROOT:data/road_anomaly}}'
test_set = '{{$ROAD_ANOMALY_TEST:RoadAnomaly21}}'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadOpenSetAnnotations'),
    dict(type='PackOpenSetInputs'),
]
fs_static = dict(type='AnomalyMasks', data_root=f'{data_root}/fs_static', pipeline=pipeline)
sampler = dict(type='DefaultSampler', shuffle=False, round_up=False)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='StepSampler'),
    collate_fn=dict(type='one_step'),
    dataset=dict(
        type='StoreSource',
        root='work_dirs/feature_banks/cgnet_fs-static',
        closed=fs_static,
        open=None,
        closed_per_image=None,
        sampler=dict(type='PixelSampler', num_closed=5000, num_open=0, num_fake=0),
    ),
)
val_dataloader = dict(batch_size=1, num_workers=0, sampler=sampler, dataset=fs_static)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=sampler,
    dataset=dict(type='AnomalyMasks', data_root=f'{data_root}/{test_set}', pipeline=pipeline),
)
