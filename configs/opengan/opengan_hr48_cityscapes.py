# The paper's: OpenGAN on HRNetV2-W48, Cityscapes, whole images of 1024x2048, scored on the 256x512
# feature grid.
_base_ = [
    '../_base_/models/opengan_fcn_hr48.py',
    '../_base_/datasets/cityscapes_open.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    segmentor=dict(
        checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/hrnet/fcn_hr48_512x1024_160k_cityscapes/fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e.pth'
    ),
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
)
train_dataloader = dict(dataset=dict(root='work_dirs/feature_banks/cityscapes_hr48'))
