# OpenGAN-0-pix (lambda_o = 0): real patches of 64x64 against generated ones, as section 4.4 of the
# paper found needed.
_base_ = './opengan-pix_hr48_cityscapes.py'
model = dict(lambda_fake=1.0)
train_dataloader = dict(
    dataset=dict(
        open=None,
        sampler=dict(
            closed_images_per_batch=16,
            open_images_per_batch=0,
            crop_size=(64, 64),
            fake_images=16,
            fake_grid=(1, 1),
        ),
    )
)
