# OpenGAN on the street world: closed, real open and generated pixels, on the frozen features of
# closed_hr_small.py.
_base_ = [
    './hr_small.py',
    '../_base_/datasets/cityscapes_open.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
output = '{{$DEMO_OUTPUT:demo_output}}'
data_root = f'{output}/world'
work_dir = f'{output}/opengan'
model = dict(segmentor=dict(checkpoint=f'{output}/closed/segmentor.pth'), fuse=dict())

train_dataloader = dict(
    dataset=dict(
        root=f'{output}/closed/features',
        closed=dict(data_root=data_root),
        open=dict(data_root=data_root),
        closed_per_image=2000,
        # 4,000 pixels a step, where the paper has 10,000, in the same shares: the demo is short.
        sampler=dict(num_closed=2000, num_open=1000, num_fake=1000, closed_images_per_batch='all'),
    )
)
# The segmentor sees the open-validation images once, not at every validation of every method.
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='StoredTaps',
        root=f'{output}/closed/open_val',
        images=dict(
            type='CityscapesOpenSet',
            data_root=data_root,
            split='open_val',
            pipeline={{_base_.pipeline}},
        ),
    ),
)
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
# Fewer steps at three times the rate, for the same reason.
optim_wrapper = dict(
    discriminator=dict(optimizer=dict(lr=2e-4)), generator=dict(optimizer=dict(lr=3e-4))
)
train_cfg = dict(max_iters=240, val_interval=20)
default_hooks = dict(logger=dict(interval=10))
custom_hooks = [dict(type='OpenGANHook'), dict(type='OpenSetEvaluationHook', plot_val=False)]
