# OpenGAN-pix on Cityscapes: D reads whole images, as section 7 describes, and one that G makes of
# the same size. Beside the paper's random image it reads one with open pixels: of few open images
# (Figure 5) it would hardly meet any else.
_base_ = [
    '../_base_/models/opengan_pix_hr48.py',
    '../_base_/datasets/cityscapes_open.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    segmentor=dict(
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/hrnet/fcn_hr48_512x1024_160k_cityscapes/fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e.pth'
    ),
    lambda_fake=0.7,  # the paper's Table 6, all open images
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
            closed_images_per_batch=1,
            open_images_per_batch=1,
            fake_images=1,
            fake_grid=(61, 125),
        ),
    )
)
# As in CycleGAN: Adam, learning rate 2e-4.
optim_wrapper = dict(
    discriminator=dict(optimizer=dict(lr=2e-4)), generator=dict(optimizer=dict(lr=2e-4))
)
