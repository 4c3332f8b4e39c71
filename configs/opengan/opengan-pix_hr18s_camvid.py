# OpenGAN-pix on CamVid. Section 7 feeds D whole images; four crops of 128x128 cost a fifth of two,
# for a CPU.
_base_ = [
    '../_base_/models/opengan_pix_hr18s.py',
    '../_base_/datasets/camvid_open.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    segmentor=dict(
        config=dict(model=dict(decode_head=dict(num_classes=11))),
        checkpoint='{{$CAMVID_SEGMENTOR:weights/hrnet18s_camvid.pth}}',
    ),
    lambda_fake=0.05,
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageSource',
        closed={{_base_.closed_train}},
        open={{_base_.open_train}},
        sampler=dict(
            type='PatchSampler',
            num_closed=5000,
            num_open=2500,
            num_fake=2500,
            closed_images_per_batch=2,
            open_images_per_batch=2,
            crop_size=(128, 128),
            fake_images=1,
            fake_grid=(5, 5),
        ),
    )
)
# As in CycleGAN: Adam, learning rate 2e-4.
optim_wrapper = dict(
    discriminator=dict(optimizer=dict(lr=2e-4)), generator=dict(optimizer=dict(lr=2e-4))
)
train_cfg = dict(max_iters=400, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=400))
