# CLS (lambda_G = 0): closed against real open pixels, no generator.
_base_ = './opengan_hr18s_camvid.py'
model = dict(generator=None)
