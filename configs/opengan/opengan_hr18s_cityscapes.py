# OpenGAN on HRNetV2-W18-Small, Cityscapes: the light-weight variant.
_base_ = [
    '../_base_/models/opengan_fcn_hr18s.py',
    '../_base_/datasets/cityscapes_open.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    segmentor=dict(
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/hrnet/fcn_hr18s_512x1024_160k_cityscapes/fcn_hr18s_512x1024_160k_cityscapes_20200602_190901-4a0797ea.pth'
    ),
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
)
train_dataloader = dict(dataset=dict(root='work_dirs/feature_banks/cityscapes_hr18s'))
