# CLS (lambda_G = 0): closed against real open pixels, no generator.
_base_ = './opengan_hr48_cityscapes.py'
model = dict(generator=None)
