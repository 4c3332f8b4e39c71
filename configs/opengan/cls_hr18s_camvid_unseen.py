# CLS (lambda_G = 0) on CamVid without OtherMoving in training: no generator.
_base_ = './opengan_hr18s_camvid_unseen.py'
model = dict(generator=None)
