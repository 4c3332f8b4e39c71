# CLS on a Cityscapes CGNet, fused with a free score.
_base_ = './opengan-fused_cgnet_fs-static.py'
model = dict(generator=None)
