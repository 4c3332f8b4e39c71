# OpenGAN on CamVid: closed, real open and generated pixels.
_base_ = [
    '../_base_/models/opengan_fcn_hr18s.py',
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
# Chosen on open validation, see docs/research_log.md: it peaks at about 400 steps.
train_cfg = dict(max_iters=500, val_interval=50)
default_hooks = dict(checkpoint=dict(interval=500))
