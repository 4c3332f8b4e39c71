# OpenGAN-pix on CamVid: D reads whole images (section 7), G makes one of 256x256 a step.
_base_ = ['../_base_/models/opengan_pix_hr18s.py', '../_base_/datasets/camvid_open.py',
          '../_base_/schedules/opengan_2k.py', '../_base_/default_runtime.py']
load_from = '{{$CAMVID_SEGMENTOR:weights/hrnet18s_camvid.pth}}'
model = dict(
    lambda_fake=0.05,
    decode_head=dict(head=dict(num_classes=11)),
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')))
train_dataloader = dict(dataset=dict(
    _delete_=True, type='ImageSource', closed={{_base_.closed_train}}, open={{_base_.open_train}},
    sampler=dict(type='PatchSampler', num_closed=5000, num_open=2500, num_fake=2500, closed_images_per_batch=1,
                 open_images_per_batch=1, fake_images=1, fake_grid=(13, 13))))
# As in CycleGAN: Adam, learning rate 2e-4.
optim_wrapper = dict(
    discriminator=dict(optimizer=dict(lr=2e-4)), generator=dict(optimizer=dict(lr=2e-4)))
train_cfg = dict(max_iters=400, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=400))
