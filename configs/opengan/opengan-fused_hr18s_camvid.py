# OpenGAN on CamVid, fused with GEN: open validation picks the step by the fused score's mean over
# kinds.
_base_ = './opengan_hr18s_camvid.py'
model = dict(fuse=dict(free=dict(type='GEN'), weight=0.5))
default_hooks = dict(checkpoint=dict(save_best='hybrid/AUROC_kinds'))
