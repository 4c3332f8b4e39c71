# The closed segmentor of the demo: plain mmseg, from scratch, on the 19 closed classes of the street world.
_base_ = ['./hr_small.py', '../_base_/default_runtime.py']
data_root = '{{$DEMO_OUTPUT:demo_output}}/world'
model = dict(
    _delete_=True, type='EncoderDecoder', data_preprocessor={{_base_.model.data_preprocessor}},
    backbone={{_base_.model.backbone}}, decode_head={{_base_.model.decode_head.head}}, test_cfg=dict(mode='whole'))

pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadOpenSetAnnotations'), dict(type='PackOpenSetInputs')]
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadOpenSetAnnotations'),
    dict(type='RandomResize', scale=(512, 256), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(192, 256)), dict(type='RandomFlip', prob=0.5), dict(type='PackOpenSetInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='CityscapesOpenSet', data_root=data_root, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CityscapesOpenSet', data_root=data_root, split='test', pipeline=pipeline))
val_evaluator = dict(_delete_=True, type='IoUMetric')
test_dataloader = val_dataloader
test_evaluator = val_evaluator

max_iters = 1000
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.01))
param_scheduler = dict(type='OneCycleLR', eta_max=3e-3, total_steps=max_iters, pct_start=0.1, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(save_best=None, rule=None))
custom_hooks = []
model_wrapper_cfg = None
