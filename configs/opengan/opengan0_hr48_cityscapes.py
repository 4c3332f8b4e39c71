# OpenGAN-0 (lambda_o = 0): no open pixel is trained on; open validation still picks the checkpoint.
_base_ = './opengan_hr48_cityscapes.py'
train_dataloader = dict(dataset=dict(open=None))
