# OpenGAN on a segmentor of one's own: say which, and where the data are. See "Your own model" in
# the README.
_base_ = [
    './models/opengan.py',
    './datasets/cityscapes_open.py',
    './schedules/opengan_2k.py',
    './default_runtime.py',
]
model = dict(
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')), test_cfg=dict(mode='whole')
)
train_dataloader = dict(dataset=dict(root='work_dirs/feature_banks/own_model'))
